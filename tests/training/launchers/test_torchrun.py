import os
import signal
import subprocess
import sys

import pytest

from ragtune.errors import TrainingError
from ragtune.training.launchers import torchrun


def test_an_ended_run_is_named_by_its_signal():
    command = [sys.executable, "-c", "import os, signal; print('so far so good'); os.kill(os.getpid(), signal.SIGKILL)"]
    status, tail = torchrun._stream(command, dict(os.environ))
    with pytest.raises(TrainingError, match=r"ended by SIGKILL \(so far so good\); too little memory\?"):
        raise torchrun._failure(status, tail)


def test_of_several_lines_the_exception_is_the_reason():
    tail = ["Traceback (most recent call last):", "ValueError: what went wrong", "=====", "and what torchrun adds"]
    assert "(ValueError: what went wrong)" in str(torchrun._failure(1, tail))


def test_of_torchruns_lines_the_one_of_the_killed_process_is_the_reason():
    tail = ["RuntimeError: Connection closed by peer", "  traceback : Signal 9 (SIGKILL) received by PID 32"]
    tail += ["  traceback : Signal 15 (SIGTERM) received by PID 31", "====="]
    message = str(torchrun._failure(1, tail))
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


def test_the_processes_of_a_machine_share_its_cores_for_computing_and_for_tokenising(monkeypatch):
    for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "TOKENIZERS_PARALLELISM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torchrun, "cpu_count", lambda: 8)
    told = torchrun._environment(2)
    assert (told["OMP_NUM_THREADS"], told["RAYON_NUM_THREADS"], told["TOKENIZERS_PARALLELISM"]) == ("4", "4", "true")


def test_the_processes_get_the_environment_that_is_asked_for(monkeypatch, tmp_path, capfd):
    code = "import os; print(os.environ['NCCL_DEBUG'])"
    monkeypatch.setattr(torchrun, "_command", lambda processes, file: [sys.executable, "-c", code])
    torchrun.Torchrun({"NCCL_DEBUG": "WARN"}).run(tmp_path / "arguments.json", 1)
    assert "WARN" in capfd.readouterr().err
