"""Rules for pods without a volume and for a training on nodes of its own, and the resources of the pod that starts it;
without kfp and torch."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ragtune.errors import ParameterError
from ragtune.registry.connection import is_server

TRAINJOB = "trainjob"
SECRET = "ragtune"  # noqa: S105 (its name; one for all credentials, optional, as are its keys)
SECRET_FILES = "/etc/ragtune/secret"  # noqa: S105 (FSSPEC_CONFIG_DIR of the images: the Secret's key fsspec.json)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET = re.compile(r"(^|_)(TOKEN|PASSWORD|SECRET|CREDENTIALS?|(ACCESS|API|PRIVATE)_KEY)(_|$)", re.IGNORECASE)
_OF_TORCHRUN = re.compile(r"PET_.*|RANK|LOCAL_RANK|(LOCAL_)?WORLD_SIZE|MASTER_(ADDR|PORT)")


def check_nodes(values: Mapping[str, Any]) -> None:
    """Refuse what several nodes cannot do together, and environment variables that are not the user's to set.

    Args:
        values: of all parameters of the pipeline.

    Raises:
        ParameterError: with the way out.
    """
    nodes, retrieval = values["nodes"], values["retrieval"]
    if nodes > 1 and values["launcher"] != TRAINJOB:
        raise ParameterError(f"nodes={nodes}: launcher={values['launcher']} starts one; set launcher={TRAINJOB}")
    if nodes > 1 and retrieval == "direct" and not values["milvus_uri"]:
        raise ParameterError(
            f"retrieval=direct: an embedded Milvus serves one machine, not nodes={nodes}; set retrieval to gather or "
            "exact, or milvus_uri to a server's"
        )
    if nodes > 1 and retrieval == "ray" and "RAY_ADDRESS" not in values["train_env"]:
        raise ParameterError(
            f"retrieval=ray: nodes={nodes} need a Ray cluster that all belong to; name it by RAY_ADDRESS in train_env, "
            "or set retrieval to gather"
        )
    for name, value in values["train_env"].items():
        _check_variable(name, value)


def check_volume(values: Mapping[str, Any]) -> None:
    """Refuse what needs files that outlive a pod, where no volume is mounted.

    Args:
        values: of all parameters of the pipeline.

    Raises:
        ParameterError: with the way out.
    """
    if values["workspace_volume"]:
        return
    place = "workspace_volume is empty, so that no file outlives its pod"
    if not values["milvus_uri"]:
        raise ParameterError(f"milvus_uri: {place}, nor does an embedded Milvus; give a server's URI, or name a volume")
    if not is_server(values["tracking_uri"]):
        raise ParameterError(
            f"tracking_uri={values['tracking_uri']}: {place}, nor does SQLite; give the http(s):// address of an "
            "MLflow server that keeps artifacts, or name a volume"
        )
    if values["launcher"] == TRAINJOB:
        raise ParameterError(
            f"launcher={TRAINJOB}: {place}, and nodes of a TrainJob see no other files; set launcher=torchrun, or name "
            "a volume"
        )


def without_secret(folder: str = SECRET_FILES) -> str:
    """A hint for a pod whose namespace lacks the one Secret, which is optional; "" for others, and outside of pods."""
    place = Path(folder)
    if "KUBERNETES_SERVICE_HOST" not in os.environ or (place.is_dir() and any(place.iterdir())):
        return ""
    return (
        f"no Secret {SECRET} in this namespace: hub, stores, Milvus and registries are asked without credentials; if "
        f"one refuses, `kubectl create secret generic {SECRET} --from-env-file=credentials.env`, and run again; "
        "docs/cluster.md, Credentials, has its keys"
    )


def training_pod(values: Mapping[str, Any]) -> tuple[str, str, str]:
    """GPUs, memory and processors of the training's own pod: it only watches where a TrainJob has them."""
    if values["launcher"] == TRAINJOB:
        return "0", values["data_memory"], values["data_cpus"]
    return values["gpus"], values["train_memory"], values["train_cpus"]


def _check_variable(name: str, value: Any) -> None:
    place = f"train_env: {name}"
    if not _VARIABLE.fullmatch(name):
        raise ParameterError(f"{place}: is no name of an environment variable, such as NCCL_SOCKET_IFNAME")
    if not isinstance(value, str):
        raise ParameterError(f'{place}={value!r}: is not a text; write "{value}" in quotes')
    if _OF_TORCHRUN.fullmatch(name):
        raise ParameterError(f"{place}: is set by torchrun; set nodes, gpus or processes")
    if _SECRET.search(name):
        raise ParameterError(
            f"{place}: parameters are stored and shown; give credentials as keys of the Secret ragtune"
        )
