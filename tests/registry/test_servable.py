import pytest

from ragtune.registry.servable import Serving

MINIO = "minio://mlpipeline/v2/artifacts/rag/model"
KEPT = "file:///workspace/models/a%20b/0a1b"


@pytest.mark.parametrize(
    ("model_uri", "serving", "uri"),
    [
        (KEPT, Serving(MINIO, "/workspace", "claim"), "pvc://claim/models/a%20b/0a1b"),
        ("/workspace/models/x", Serving("", "/workspace", "claim"), "pvc://claim/models/x"),
        (KEPT, Serving(MINIO, "/workspace", ""), "s3://mlpipeline/v2/artifacts/rag/model"),
        ("file:///workspaces/x", Serving("", "/workspace", "claim"), ""),
        ("file:///tmp/x", Serving("gs://bucket/x?provider=gs", "/workspace", "claim"), "gs://bucket/x"),
        ("s3://bucket/mlflow/1/model", Serving(MINIO), "s3://bucket/mlflow/1/model"),
        ("mlflow-artifacts:/0/1/model", Serving(MINIO), "s3://mlpipeline/v2/artifacts/rag/model"),
        ("mlflow-artifacts:/0/1/model", Serving("/tmp/outputs/model"), ""),
        ("hf://owner/name", Serving(), "hf://owner/name"),
        ("s3://", Serving(), ""),
    ],
)
def test_kserve_fetches_a_claims_path_or_an_object_stores(model_uri, serving, uri):
    assert serving.uri(model_uri) == uri
