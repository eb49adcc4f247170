"""The rules for nodes of a training, and the resources of its own pod."""

import pytest

from pipeline import rag_finetuning
from ragtune.errors import ParameterError
from ragtune.kubeflow.nodes import check_nodes, check_volume, training_pod, without_secret
from ragtune.kubeflow.parameters import check_values, with_defaults


def values(**given):
    return with_defaults(rag_finetuning.pipeline_func, {"questions": "q", "corpus": "c", **given})


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"launcher": "trainjob"},
        {"launcher": "trainjob", "nodes": 2, "retrieval": "gather"},
        {"launcher": "trainjob", "nodes": 2, "milvus_uri": "http://milvus:19530"},
        {"launcher": "trainjob", "nodes": 2, "retrieval": "ray", "train_env": {"RAY_ADDRESS": "ray:6379"}},
        {"train_env": {"NCCL_SOCKET_IFNAME": "eth0", "TOKENIZERS_PARALLELISM": "false"}},
    ],
)
def test_what_goes_together_passes(given):
    check_nodes(values(**given))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"nodes": 2}, "nodes=2: launcher=torchrun starts one; set launcher=trainjob"),
        (
            {"launcher": "trainjob", "nodes": 2},
            "embedded Milvus serves one machine, not nodes=2; set retrieval to gather",
        ),
        ({"launcher": "trainjob", "nodes": 2, "retrieval": "ray"}, "name it by RAY_ADDRESS in train_env"),
        (
            {"train_env": {"NCCL_IB_DISABLE": 1.0}},
            'train_env: NCCL_IB_DISABLE=1.0: is not a text; write "1.0" in quotes',
        ),
        ({"train_env": {"A=B": "1"}}, "train_env: A=B: is no name of an environment variable"),
        ({"train_env": {"PET_NNODES": "1"}}, "PET_NNODES: is set by torchrun"),
        ({"train_env": {"HF_TOKEN": "hf_x"}}, "HF_TOKEN: parameters are stored and shown; .* the Secret ragtune"),
    ],
)
def test_what_does_not_is_refused(given, message):
    with pytest.raises(ParameterError, match=message):
        check_nodes(values(**given))


def test_the_trainings_pod_takes_no_gpu_where_a_trainjob_has_them():
    asked = {"gpus": "8", "train_memory": "500Gi", "train_cpus": "64"}
    assert training_pod(values(**asked)) == ("8", "500Gi", "64")
    assert training_pod(values(**asked, launcher="trainjob")) == ("0", "8Gi", "2")


def test_a_pod_without_the_secret_is_told_how_to_make_it(tmp_path, monkeypatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert without_secret(str(tmp_path)) == ""  # no pod
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    for folder in (tmp_path, tmp_path / "not mounted"):
        assert "`kubectl create secret generic ragtune --from-env-file" in without_secret(str(folder))
    (tmp_path / "HF_TOKEN").write_text("t")
    assert without_secret(str(tmp_path)) == ""


SERVERS = {"workspace_volume": "", "milvus_uri": "http://milvus:19530", "tracking_uri": "https://mlflow.example.org"}


@pytest.mark.parametrize(
    "given",
    [{}, SERVERS, SERVERS | {"start_from": "champion"}, {"workspace_volume": "scratch", "launcher": "trainjob"}],
)
def test_a_volume_or_servers_keep_what_outlives_a_pod(given):
    check_volume(values(**given))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"milvus_uri": ""}, "milvus_uri: workspace_volume is empty.*give a server's URI, or name a volume"),
        ({"tracking_uri": ""}, r"tracking_uri=: workspace_volume is empty.*http\(s\):// address of an MLflow server"),
        ({"tracking_uri": "sqlite:////workspace/mlflow.db"}, "nor does SQLite"),
        ({"launcher": "trainjob"}, "launcher=trainjob: workspace_volume is empty.*set launcher=torchrun, or name"),
    ],
)
def test_without_a_volume_nothing_is_kept_in_a_pod(given, message):
    with pytest.raises(ParameterError, match=message):
        check_values(values(**(SERVERS | given)))
