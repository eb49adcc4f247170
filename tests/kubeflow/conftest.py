from pathlib import Path

import pytest
from kfp_server import KfpServer

from ragtune.kubeflow.connection import connect
from ragtune.kubeflow.package import Package

COMPILED = Path(__file__).parents[2] / "compiled" / "rag_finetuning.yaml"
SMALL = """
components:
  comp-finetune-rag: {executorLabel: exec-finetune-rag}
deploymentSpec:
  executors: {exec-finetune-rag: {container: {image: "ragtune-train:1", command: [python]}}}
pipelineInfo: {name: rag-finetuning}
root:
  dag:
    tasks:
      finetune-rag: {componentRef: {name: comp-finetune-rag}, taskInfo: {name: finetune-rag}}
  inputDefinitions:
    parameters:
      questions: {parameterType: STRING, isOptional: false}
      corpus: {parameterType: STRING}
      max_steps: {parameterType: NUMBER_INTEGER, defaultValue: 1000, isOptional: true}
      training_options: {parameterType: STRUCT, defaultValue: {}, isOptional: true}
schemaVersion: 2.1.0
sdkVersion: kfp-2.17.0
---
platforms: {kubernetes: {}}
"""
VARIABLES = ("TOKEN", "TOKEN_FILE", "COOKIES", "COOKIES_FILE", "CA_FILE")


@pytest.fixture(autouse=True)
def no_cluster_of_ones_own(monkeypatch):
    for name in ("KF_PIPELINES_ENDPOINT", "KF_PIPELINES_SA_TOKEN_PATH", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    for name in VARIABLES:
        monkeypatch.delenv(f"RAGTUNE_KFP_{name}", raising=False)


@pytest.fixture
def server():
    with KfpServer() as running:
        yield running


@pytest.fixture
def connection(server):
    return connect(server.host, seconds=(1, 5))


@pytest.fixture(scope="session")
def compiled():
    """The pipeline itself; tests that need only some pipeline take `package`, which is small."""
    return Package.read(COMPILED)


@pytest.fixture(scope="session")
def package(tmp_path_factory):
    file = tmp_path_factory.mktemp("package") / "small.yaml"
    file.write_text(SMALL)
    return Package.read(file)
