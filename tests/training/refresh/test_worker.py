"""The process that makes knowledge bases beside a training, killed, misled and left alone."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from joblib import cpu_count
from transformers import TrainerControl, TrainerState
from world import PASSAGES

from ragtune.errors import TrainingError
from ragtune.knowledge.knowledge_base import KnowledgeBase
from ragtune.knowledge.milvus import connect_server
from ragtune.knowledge.pointers import resolve
from ragtune.models.encoders import Encoder
from ragtune.training.arguments import RagTrainingArguments, RunFiles
from ragtune.training.refresh.devices import RefreshDevices
from ragtune.training.refresh.knowledge import RefreshedKnowledge
from ragtune.training.refresh.worker import Refresher, Target

WAIT_SECONDS = 600  # at low priority beside other tests


@pytest.fixture(scope="module")
def encoder(world):
    return Encoder.from_pretrained(world.encoder, "passage")


@pytest.fixture(scope="module")
def refresher(world, tmp_path_factory):
    """One for all tests here, as for all refreshes of a run; each test takes other steps."""
    target = Target(world.passages_file, "run", "FLAT", "")
    refresher = Refresher(tmp_path_factory.mktemp("refresh"), target, lambda: RefreshDevices(("cpu",)))
    yield refresher
    refresher.stop()


def wait(refresher):
    end = time.monotonic() + WAIT_SECONDS
    while refresher.step is not None:
        assert time.monotonic() < end, (refresher.folder / "log.txt").read_text()
        if done := refresher.finished():
            return done
        time.sleep(0.05)
    return None


def test_a_snapshot_becomes_a_knowledge_base_while_the_encoder_trains_on(refresher, encoder):
    expected = encoder.encode_passages(PASSAGES)
    moved = Encoder.from_pretrained(encoder.name, "passage")
    refresher.start(1, moved)
    moved.backbone.embeddings.word_embeddings.weight.data.zero_()
    done = wait(refresher)
    assert done.step == 1
    assert done.seconds > 0
    with KnowledgeBase.open(refresher.base_folder(1), encoder_fingerprint=encoder.fingerprint) as base:
        assert base.search(expected, 1).embeddings[0, 0] == pytest.approx(expected[0], abs=1e-6)
    assert not list(refresher.folder.rglob("embeddings")) and not list(refresher.folder.rglob(".vectors.*"))


def test_it_gives_way_to_the_training(refresher, encoder):
    refresher.start(2, encoder)
    pid = refresher.process.pid
    environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    assert os.getpriority(os.PRIO_PROCESS, pid) > os.getpriority(os.PRIO_PROCESS, 0)
    assert f"OMP_NUM_THREADS={max(1, cpu_count() // 4)}".encode() in environment
    assert wait(refresher).step == 2


def test_one_process_makes_all_of_them(refresher, encoder):
    pids = set()
    for step in (3, 4):
        refresher.start(step, encoder)
        pids.add(refresher.process.pid)
        assert wait(refresher).step == step
    assert len(pids) == 1


def test_a_refresher_that_fails_says_why_and_the_next_one_works(refresher, encoder, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(refresher, "target", Target("nowhere.arrow", "run", "FLAT", ""))
        refresher.start(5, encoder)
    assert wait(refresher) is None
    said = capsys.readouterr().err
    assert "the refresh of step 5 failed (nowhere.arrow: no such file" in said
    assert 5 not in refresher.steps()
    refresher.start(6, encoder)
    assert wait(refresher).step == 6


@pytest.fixture
def knowledge_of(world, knowledge_base_folder, refresher, encoder, tmp_path):
    """The knowledge base that a trainer searches, with the refresher of these tests."""
    opened = []

    def make(folder=knowledge_base_folder, uri="", **parameters):
        args = RagTrainingArguments(output_dir="run", method="rag-end2end", max_steps=1000, n_docs=3, **parameters)
        files = RunFiles(world.pairs, folder, "out", "work", milvus_uri=uri, **world.parts)
        knowledge = RefreshedKnowledge(files, args, encoder, resolve(folder), tmp_path / "run")
        knowledge.refresher, made = refresher, knowledge.refresher
        refresher.target = made.target
        opened.append(knowledge)
        return knowledge

    yield make
    for knowledge in opened:
        knowledge._open.close()


def kill(refresher):
    refresher.process.send_signal(signal.SIGKILL)
    refresher.process.wait()


def end_step(knowledge, step):
    state = TrainerState(global_step=step, max_steps=1000)
    knowledge.on_step_end(knowledge.args, state, TrainerControl())


def test_without_a_limit_training_never_waits_and_switches_when_a_version_is_ready(knowledge_of, refresher, capsys):
    knowledge = knowledge_of(refresh_every=10)
    query = knowledge.encoder.encode_passages(PASSAGES[:1])
    end_step(knowledge, 10)
    assert (refresher.step, knowledge.step) == (10, 0)
    for step in range(11, 40):
        end_step(knowledge, step)
    assert knowledge.search(query, 1).rows.shape == (1, 1)
    while knowledge.step == 0:
        step += 1
        end_step(knowledge, step)
        time.sleep(0.05)
    assert (knowledge.step, knowledge.staleness(step)) == (10, step - 10)
    assert f"from step {step} on the knowledge base of step 10 is searched" in capsys.readouterr().err
    assert knowledge.search(query, 1).embeddings[0, 0] == pytest.approx(query[0], abs=1e-6)
    wait(refresher)  # for the one that was due meanwhile


def test_training_goes_on_when_the_refresher_is_killed_and_starts_it_again_when_it_is_due(
    knowledge_of, refresher, capsys
):
    knowledge = knowledge_of(refresh_every=5)
    kill(refresher)  # in its sleep
    end_step(knowledge, 100)
    kill(refresher)  # at work
    end_step(knowledge, 101)
    assert "the refresh of step 100 failed (ended by SIGKILL)" in capsys.readouterr().err
    assert (refresher.step, knowledge.step) == (None, 0)
    for step in range(102, 106):
        end_step(knowledge, step)
    assert refresher.step == 105
    assert wait(refresher).step == 105


def test_a_refresh_that_always_fails_ends_the_training_that_would_wait_for_it(knowledge_of, refresher, monkeypatch):
    knowledge = knowledge_of(refresh_every=2, max_staleness=2)
    monkeypatch.setattr(refresher, "target", Target("nowhere.arrow", "run", "FLAT", ""))
    with pytest.raises(TrainingError, match=r"step 200: .* 200 steps old, .*max_staleness=2.* failed 3 times"):
        end_step(knowledge, 200)


def test_a_checkpoint_whose_version_is_gone_is_gone_on_with_from_the_first_one(knowledge_of, tmp_path, capsys):
    knowledge = knowledge_of()
    knowledge.step = 300
    knowledge.save(tmp_path)
    again = knowledge_of()
    again.load(tmp_path)
    assert again.step == 0
    assert "the knowledge base of step 300 is gone" in capsys.readouterr().err


def test_what_was_begun_is_gone_on_with(refresher, encoder):
    assert not refresher.go_on(9)
    refresher.start(9, encoder)
    assert wait(refresher).step == 9
    (refresher.folder / "step_9" / "outcome.json").unlink()
    assert refresher.go_on(9)
    assert wait(refresher).step == 9


def test_a_served_base_is_refreshed_on_its_server_and_the_last_one_is_embedded(
    knowledge_of, knowledge_base_folder, refresher, lite_server, tmp_path
):
    start = shutil.copytree(knowledge_base_folder, tmp_path / "start")
    uri = lite_server(start / "kb_v1" / "milvus.db")
    before = connect_server(uri, "").list_collections()
    knowledge = knowledge_of(str(start), uri, refresh_every=1)
    query = knowledge.encoder.encode_passages(PASSAGES[:1])
    first = knowledge.search(query, 1)
    end_step(knowledge, 400)
    while refresher.finished() is None:
        time.sleep(0.05)
    knowledge._switch(400)
    assert knowledge.search(query, 1).rows.tolist() == first.rows.tolist()
    assert not (refresher.base_folder(400) / "kb_v1" / "milvus.db").exists()
    assert len(connect_server(uri, "").list_collections()) == len(before) + 1
    served = knowledge.serve_trained()
    assert connect_server(uri, "").list_collections() == before
    assert served["path"] == f"{start}-run"
    with KnowledgeBase.open(served["path"], encoder_fingerprint=knowledge.encoder.fingerprint) as base:
        assert base.search(query, 1).rows.tolist() == first.rows.tolist()
    assert (Path(served["path"]) / "kb_v1" / "milvus.db").exists()


STARTS_A_REFRESHER = """
import sys, time
from pathlib import Path
from ragtune.training.refresh.devices import RefreshDevices
from ragtune.training.refresh.worker import Refresher, Target
from ragtune.models.encoders import Encoder
folder, passages, encoder = sys.argv[1:]
refresher = Refresher(Path(folder), Target(passages, "run", "FLAT", ""), lambda: RefreshDevices(("cpu",)))
refresher.start(1, Encoder.from_pretrained(encoder, "passage"))
print(refresher.process.pid, flush=True)
time.sleep(100)
"""


@pytest.mark.slow
def test_it_ends_when_the_training_is_killed(world, tmp_path):
    command = [sys.executable, "-c", STARTS_A_REFRESHER, str(tmp_path), world.passages_file, world.encoder]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as training:
        pid = int(training.stdout.readline())
        training.kill()
    end = time.monotonic() + WAIT_SECONDS
    while is_running(pid):
        assert time.monotonic() < end
        time.sleep(0.1)


def is_running(pid):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_a_refresh_that_finds_no_room_on_the_trainings_gpu_takes_the_cpu_from_then_on(refresher, capsys):
    sharing = Refresher(refresher.folder / "sharing", refresher.target, lambda: RefreshDevices(("cuda:0",), 1 << 30))
    sharing.devices, sharing.step = sharing.choose(), 1
    outcome = sharing.folder / "step_1" / "outcome.json"
    outcome.parent.mkdir(parents=True)
    outcome.write_text('{"error": "OutOfMemoryError: CUDA out of memory"}')
    assert sharing.finished() is None
    assert sharing.devices == RefreshDevices(("cpu",))
    assert "embedded on cpu from now on" in capsys.readouterr().err


def test_a_refresh_that_outlasts_refresh_every_several_times_is_told_once_with_what_to_do(knowledge_of, capsys):
    knowledge = knowledge_of(refresh_every=10)
    endless = SimpleNamespace(step=10, devices=RefreshDevices(("cpu",)), finished=lambda: None, steps=lambda: [])
    knowledge.refresher, knowledge._last_start = endless, 10
    end_step(knowledge, 39)
    assert "warning" not in capsys.readouterr().err
    for step in range(40, 60):
        end_step(knowledge, step)
    said = capsys.readouterr().err
    assert said.count("warning") == 1
    assert "step 40: the refresh of step 10 has gone on for 30 steps, 3 times refresh_every=10, on cpu" in said
    assert "refresh_device" in said and "max_staleness" in said


def test_a_staleness_that_no_refresh_could_keep_is_refused():
    with pytest.raises(TrainingError, match=r"max_staleness=5: .* refresh_every=10 steps only"):
        RagTrainingArguments(output_dir="run", method="rag-end2end", refresh_every=10, max_staleness=5)
