import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ragtune.errors import KnowledgeBaseError, TrainingError
from ragtune.knowledge.garbage import Search
from ragtune.training import launch
from ragtune.training.launch import finetune


@pytest.fixture
def start(world, tmp_path):
    def start(**parameters):
        folders = {"dataset_folder": world.pairs, "knowledge_base_folder": tmp_path}
        folders |= {"output_folder": tmp_path / "model", "work_folder": tmp_path / "work"}
        return finetune(**folders | world.parts | parameters)

    return start


def test_an_unknown_parameter_is_refused_before_anything_starts(start):
    with pytest.raises(TrainingError, match="learning_rat: no such training parameter; did you mean learning_rate"):
        start(learning_rat=1e-3)


def test_the_error_of_the_run_is_raised_here_with_its_own_type(start, tmp_path, capfd):
    with pytest.raises(KnowledgeBaseError, match="no knowledge base there"):
        start(max_steps=1)
    assert "Traceback" not in capfd.readouterr().err
    assert not (tmp_path / "model").exists()


def test_the_folder_of_a_run_that_goes_on_is_no_garbage_however_old(start, tmp_path, monkeypatch):
    exchange = []

    def days_later(command, environment):
        exchange.append(Path(command[-1]).parent)
        for path in [exchange[0], *exchange[0].iterdir()]:
            os.utime(path, (0, 0))
        (tmp_path / "workspace").mkdir()
        exchange.extend(Search(tmp_path / "workspace").run().garbage)
        return 1, []

    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(launch, "_stream", days_later)
    with pytest.raises(TrainingError):
        start(max_steps=1)
    (folder,) = exchange
    assert folder.name.startswith("ragtune-") and not folder.exists()


def test_an_ended_run_is_named_by_its_signal():
    command = [sys.executable, "-c", "import os, signal; print('so far so good'); os.kill(os.getpid(), signal.SIGKILL)"]
    status, tail = launch._stream(command, dict(os.environ))
    with pytest.raises(TrainingError, match=r"ended by SIGKILL \(so far so good\); too little memory\?"):
        raise launch._failure(status, {}, tail)


def test_of_several_lines_the_exception_is_the_reason():
    tail = ["Traceback (most recent call last):", "ValueError: what went wrong", "=====", "and what torchrun adds"]
    assert "(ValueError: what went wrong)" in str(launch._failure(1, {}, tail))


def test_of_torchruns_lines_the_one_of_the_killed_process_is_the_reason():
    tail = ["RuntimeError: Connection closed by peer", "  traceback : Signal 9 (SIGKILL) received by PID 32"]
    tail += ["  traceback : Signal 15 (SIGTERM) received by PID 31", "====="]
    message = str(launch._failure(1, {}, tail))
    assert "Signal 9 (SIGKILL) received by PID 32" in message
    assert "too little memory?" in message


WAITS_FOR_ITS_STARTER = """
import sys, threading, time
from ragtune.training.__main__ import _end_with_starter
threading.Thread(target=_end_with_starter, daemon=True).start()
print("waiting", flush=True)
time.sleep(100)
"""


@pytest.mark.slow
def test_a_run_ends_with_its_starter():
    with subprocess.Popen(
        [sys.executable, "-c", WAITS_FOR_ITS_STARTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as run:
        assert run.stdout.readline() == b"waiting\n"
        run.stdin.close()
        assert run.wait(timeout=20) == -signal.SIGTERM
