"""The places of a registered model from which KServe can fetch it."""

from dataclasses import dataclass
from urllib.parse import quote

from ragtune.registry.connection import local_folder

_SCHEMES = ("s3", "gs", "hf", "oci", "pvc", "hdfs", "https", "http")  # of KServe's storage initializer
_MINIO = "minio"  # KFP's own word for its object store, which speaks s3


@dataclass(frozen=True)
class Serving:
    """The surroundings of a registered model that decide how KServe gets it.

    Attributes:
        artifact_uri: of the model as an artifact of the pipeline, `minio://…`, `s3://…` or `gs://…`; "" for none.
        workspace: folder that the volume claim is mounted at.
        claim: the volume claim; "" where there is none.
        storage_key: name of the bucket's credentials in the Secret `storage-config`.
        service_account: that serves the model; "" leaves it to KServe.
    """

    artifact_uri: str = ""
    workspace: str = ""
    claim: str = ""
    storage_key: str = ""
    service_account: str = ""

    def uri(self, model_uri: str) -> str:
        """The URI by which KServe can fetch a model; "" where there is none.

        A path on the workspace's claim is `pvc://CLAIM/path`; a path elsewhere, or a server's own scheme, is gone or
        unknown to KServe, so the pipeline's artifact in the object store stands for it.

        Args:
            model_uri: where the registered version's model lies.
        """
        path = local_folder(model_uri)
        if path and self.claim and self.workspace and path.is_relative_to(self.workspace):
            return f"pvc://{self.claim}/{quote(path.relative_to(self.workspace).as_posix())}"
        for uri in (model_uri, self.artifact_uri):
            scheme, _, rest = uri.partition("://")
            if scheme == _MINIO:
                scheme = "s3"
            if scheme in _SCHEMES and rest:
                return f"{scheme}://{rest.partition('?')[0] if scheme in ('s3', 'gs') else rest}"
        return ""
