"""The whole DAG in the two images, restricted as a pod is, against the same DAG in processes. Off by default:

python -m pytest -m containers tests/containers
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from real_milvus import TOKEN, Server, free_port

from ragtune.knowledge.address import TOKEN_VARIABLE, wait_until_listening

ROOT = Path(__file__).parents[2]
IMAGES = ("RAGTUNE_DATA_IMAGE", "RAGTUNE_TRAIN_IMAGE")
TOOLS = ("podman", "buildah", "runc", "conmon", "debootstrap")  # containers.sh's, in place of Docker
SAME = ("em", "f1", "rougeL", "recall@1", "recall@5", "mrr@10", "loss")  # of before, after and closed-book
pytestmark = [pytest.mark.containers, pytest.mark.timeout(5400)]


@pytest.fixture(scope="module")
def in_containers(tmp_path_factory):
    """The command that runs run_dag.py with an engine and both images, which are built if need be."""
    docker = pytest.importorskip("docker", reason="kfp runs containers with it: pip install docker")
    if all(name in os.environ for name in IMAGES):
        try:
            client = docker.from_env()
            for name in IMAGES:
                client.images.get(os.environ[name])
        except docker.errors.DockerException as error:
            pytest.skip(f"{' and '.join(IMAGES)} are set, but their engine does not have them: {error}")
        return [sys.executable, "tests/containers/run_dag.py", "containers"]
    absent = [tool for tool in TOOLS if not shutil.which(tool)]
    if absent or os.geteuid():
        missing = f"{', '.join(absent)} not installed" if absent else "not root"
        pytest.skip(f"no images: set {' and '.join(IMAGES)} to what `make images` built; to build them here: {missing}")
    script = "tests/containers/containers.sh"
    built = subprocess.run([script, "all"], cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
    return [script, "run"]


def metrics(command, output, *sets):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [str(part) for part in (*command, output, *sets)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads((output / "metrics.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def in_processes(tmp_path_factory):
    """The metrics that containers have to give."""
    command = [sys.executable, "tests/containers/run_dag.py", "processes"]
    told = metrics(command, tmp_path_factory.mktemp("processes") / "run")
    return {name: value for name, value in told.items() if name.startswith(SAME)}


@pytest.fixture
def servers(tmp_path, monkeypatch):
    """Milvus and MLflow, which keep what a volume would; as parameters of a run."""
    milvus, port = Server(tmp_path / "milvus"), free_port()
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    kept = ["--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db", "--artifacts-destination", f"{tmp_path}/kept"]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with open(tmp_path / "mlflow.log", "w", encoding="utf-8") as log:
        mlflow = subprocess.Popen([*command, *kept], stdout=log, stderr=log, cwd=tmp_path, env=environment)
    try:
        wait_until_listening(f"http://127.0.0.1:{port}", 120)
        yield ["workspace_volume=", f"milvus_uri={milvus.uri}", f"tracking_uri=http://127.0.0.1:{port}"]
    finally:
        mlflow.terminate()
        mlflow.wait()
        milvus.end()


def test_pods_that_mount_one_volume_give_the_metrics_of_processes(in_containers, in_processes, tmp_path):
    """ReadWriteMany, or ReadWriteOnce with all pods on one node: to a container both are a folder."""
    told = metrics(in_containers, tmp_path / "run")
    assert {name: told[name] for name in in_processes} == pytest.approx(in_processes, abs=1e-6)


def test_pods_without_a_volume_give_them_too_and_the_next_run_starts_from_the_champion(
    in_containers, in_processes, servers, tmp_path
):
    told = metrics(in_containers, tmp_path / "first", *servers, "promote=force")
    assert {name: told[name] for name in in_processes} == pytest.approx(in_processes, abs=1e-6)
    again = metrics(in_containers, tmp_path / "second", *servers, "max_steps=10", "start_from=champion")
    assert again["ingestion_written"] == 0  # the collection is there
    assert again["em_champion"] == told["em_after"]  # its model and knowledge base come from MLflow
    assert again["em_before"] == told["em_after"]  # and so does the model to start from, in each box
