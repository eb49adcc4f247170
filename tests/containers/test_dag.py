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
    told = json.loads((output / "metrics.json").read_text(encoding="utf-8"))
    return {name: value for name, value in told.items() if name.startswith(SAME)}


@pytest.fixture(scope="module")
def in_processes(tmp_path_factory):
    command = [sys.executable, "tests/containers/run_dag.py", "processes"]
    return metrics(command, tmp_path_factory.mktemp("processes") / "run")


def test_pods_that_mount_one_volume_give_the_metrics_of_processes(in_containers, in_processes, tmp_path):
    assert metrics(in_containers, tmp_path / "run") == pytest.approx(in_processes, abs=1e-6)
