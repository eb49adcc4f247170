"""Ray, torchrun and Milvus Lite as they are, and `kill -9`."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import psutil
import pytest
from backends_process import QUERIES, SHARES
from real_milvus import TOKEN, Server

from ragtune.errors import ClusterError, TrainingError
from ragtune.knowledge.feature_repo import TOKEN_VARIABLE
from ragtune.knowledge.knowledge_base import KnowledgeBase, ingest_passages
from ragtune.models.encoders import Encoder
from ragtune.ray_cluster import ADDRESS_VARIABLE, _own_token, own_cluster, own_ray
from ragtune.training.launch import finetune
from ragtune.training.retrieval.ray_retrieval import check_ray

HERE = Path(__file__).parents[1]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
PARAMETERS = {"max_steps": 8, "eval_steps": 4, "logging_steps": 1, "n_docs": 3, "temperature": 0.05}
PARAMETERS |= {"learning_rate": 3e-3, "report_to": "none", "per_device_train_batch_size": 4}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def backends(still_world, still_knowledge_base, tmp_path_factory):
    """By kind of Milvus the folder of what two processes got of each backend, and the passages that one gets alone."""
    folder, server = tmp_path_factory.mktemp("backends"), Server(tmp_path_factory.mktemp("milvus"))
    bases = {"embedded": Path(still_knowledge_base), "server": folder / "base"}
    alone = {}
    try:
        encoder = Encoder.from_pretrained(still_world.encoder, "passage")
        ingest_passages(still_world.passages_file, bases["server"], encoder, uri=server.uri, index="FLAT", token=TOKEN)
        places = [str(place) for kind, base in bases.items() for place in (base, folder / kind)]
        command = [*TORCHRUN, str(HERE / "backends_process.py"), still_world.pairs, *places]
        subprocess.run(command, env=os.environ | {TOKEN_VARIABLE: TOKEN}, check=True)
        for kind, base in bases.items():
            with KnowledgeBase.open(base, token=TOKEN if kind == "server" else "") as opened:
                alone[kind] = folder / kind, opened.search(QUERIES, 3)
    finally:
        server.end()
    return alone


@pytest.mark.parametrize("kind", ["embedded", "server"])
@pytest.mark.parametrize("retrieval", ["direct", "gather", "ray"])
def test_every_backend_gives_each_process_its_own_passages(backends, kind, retrieval):
    folder, expected = backends[kind]
    found = [np.load(folder / f"{retrieval}-{rank}.npz") for rank in range(2)]
    assert tuple(len(part["rows"]) for part in found) == SHARES
    for name in ("rows", "scores", "embeddings"):
        together = np.concatenate([part[name] for part in found])
        assert together.dtype == getattr(expected, name).dtype
        assert np.array_equal(together, getattr(expected, name)), name


@pytest.fixture(scope="module")
def runs(still_world, still_knowledge_base, tmp_path_factory):
    """Two processes that gather, and two whose Ray actor is killed; the folder, and what the latter said."""
    folder = tmp_path_factory.mktemp("runs")
    common = {"dataset_folder": still_world.pairs, "knowledge_base_folder": still_knowledge_base, **still_world.parts}
    common |= {"work_folder": str(folder / "work"), **PARAMETERS}
    finetune(output_folder=folder / "gather", processes=2, retrieval="gather", **common)
    arguments = common | {"output_folder": str(folder / "ray"), "retrieval": "ray"}
    (folder / "arguments.json").write_text(json.dumps(arguments))
    command = [*TORCHRUN, str(HERE / "ray_run.py"), "actor", str(folder / "arguments.json")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    return folder, ended.stderr


def test_a_run_whose_actor_is_killed_has_the_curve_of_one_that_gathers(runs):
    folder, _ = runs
    gather, ray = (json.loads((folder / name / "training_log.json").read_text()) for name in ("gather", "ray"))
    assert [point["step"] for point in ray] == list(range(9))
    for name in ("loss", "grad_norm", "entropy", "distinct_passages", "train_recall@3", "validation_loss", "recall@5"):
        expected = [point[name] for point in gather if name in point]
        assert [point[name] for point in ray if name in point] == pytest.approx(expected, rel=1e-4), name


def test_the_log_says_that_the_actor_was_gone_and_is_back(runs):
    _, said = runs
    assert "warning: retrieval: the Ray actor searcher-" in said
    assert "retrieval: answers again after" in said


def test_nothing_of_ray_is_left_after_a_run(runs):
    folder, _ = runs
    assert left_of(folder / "processes.json", seconds=0) == []


def test_nothing_of_ray_is_left_after_a_killed_run(still_world, still_knowledge_base, tmp_path):
    arguments = {
        "dataset_folder": still_world.pairs,
        "knowledge_base_folder": still_knowledge_base,
        **still_world.parts,
    }
    arguments |= {"work_folder": str(tmp_path / "work"), "output_folder": str(tmp_path / "model"), "retrieval": "ray"}
    (tmp_path / "arguments.json").write_text(json.dumps(arguments | PARAMETERS))
    command = [sys.executable, str(HERE / "ray_run.py"), "itself", str(tmp_path / "arguments.json")]
    assert subprocess.run(command, capture_output=True, timeout=300).returncode == -9
    assert left_of(tmp_path / "processes.json", seconds=30) == []


def test_ray_listens_on_loopback_alone(runs):
    folder, _ = runs
    addresses = json.loads((folder / "processes.json").read_text())["addresses"]
    assert len(addresses) > 3
    assert set(addresses) == {"127.0.0.1"}


def test_an_actor_says_why_it_cannot_open_the_base(tmp_path):
    with own_cluster(cpus=1, gpus=0, object_store_bytes=80 * 2**20) as cluster:
        environment = os.environ | own_ray(cluster["token"])
        command = [
            sys.executable,
            "-m",
            "ragtune.training.retrieval.ray_pool",
            cluster["address"],
            str(tmp_path),
            "",
            "1",
        ]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 1
    error = {
        "error": "KnowledgeBaseError",
        "message": f"{tmp_path}: no knowledge base there (no served.json); run ingest_passages first",
    }
    assert json.loads(ended.stdout) == error
    assert cluster["token"] == _own_token()  # the next cluster's, too: Ray takes no other in this process


def test_a_ray_that_was_imported_before_its_token_is_refused_at_once(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setattr("ragtune.ray_cluster._own_token", _own_token.__wrapped__)  # as in a process that had none yet
    with pytest.raises(ClusterError, match="Ray: it was imported before it was told to ask for a token"):
        own_cluster(cpus=1, gpus=0, object_store_bytes=80 * 2**20)


def test_processes_on_several_machines_need_a_cluster(monkeypatch):
    monkeypatch.delenv(ADDRESS_VARIABLE, raising=False)
    check_ray(2, 2)
    with pytest.raises(TrainingError, match="set RAY_ADDRESS, or set retrieval=gather"):
        check_ray(2, 4)
    monkeypatch.setenv(ADDRESS_VARIABLE, "10.0.0.1:6379")
    check_ray(2, 4)


def test_ray_that_is_not_installed_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(TrainingError, match=r"pip install 'ragtune\[ray\]'"):
        check_ray(1, 1)


def left_of(processes, seconds):
    """Names of the processes in a file that are still there so long after."""
    names = json.loads(processes.read_text())["names"]
    assert {"gcs_server", "raylet"} <= set(names.values())
    deadline = time.monotonic() + seconds
    while left := [names[pid] for pid in names if running(int(pid))]:
        if time.monotonic() >= deadline:
            break
        time.sleep(0.2)
    return left


def running(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
