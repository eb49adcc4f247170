import fcntl
import os
import signal
import subprocess
import sys
import time

import pytest

from ragtune import locks
from ragtune.errors import StorageError
from ragtune.locks import is_locked, locked

HOLD = """
import sys, time
from ragtune.locks import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds tmp_path/a.lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "a.lock"], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_lock_that_another_process_holds_is_an_error_after_the_wait(holder, tmp_path):
    started = time.monotonic()
    told = r"a\.lock: held by another process for 1 seconds; wait for that one"
    with pytest.raises(StorageError, match=told), locked(tmp_path / "a.lock", wait_seconds=0.6):
        pass
    assert 0.6 <= time.monotonic() - started < 5


def test_a_killed_process_holds_nothing(holder, tmp_path):
    os.kill(holder.pid, signal.SIGKILL)
    with locked(tmp_path / "a.lock", wait_seconds=10):
        pass


def test_the_lock_file_is_open_for_writing_as_nfs_demands(tmp_path, monkeypatch):
    modes = []
    monkeypatch.setattr(fcntl, "flock", lambda file, _: modes.append(fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE))
    with locked(tmp_path / "new" / "a.lock"):
        pass
    assert modes == [os.O_WRONLY]


def test_only_a_held_lock_is_told_as_held(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StorageError, match=r"no lock can be had there \(Bad file"), locked(tmp_path / "a.lock", 60):
        pass


def test_a_lock_whose_holder_removes_the_file_is_taken_on_the_file_that_stands_there_then(tmp_path, monkeypatch):
    acquire = locks._acquire

    def removed_first(descriptor, path, wait_seconds):
        monkeypatch.setattr(locks, "_acquire", acquire)
        path.unlink()
        acquire(descriptor, path, wait_seconds)

    monkeypatch.setattr(locks, "_acquire", removed_first)
    with locked(tmp_path / "a.lock"):
        assert is_locked(tmp_path / "a.lock")


def test_a_place_that_may_not_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"a\.lock: cannot be made"), locked(tmp_path / "file" / "a.lock"):
        pass


def test_a_lock_is_seen_while_it_is_held_and_asking_makes_nothing(tmp_path):
    path = tmp_path / "lock"
    assert not is_locked(path)
    assert not path.exists()
    with locked(path):
        assert is_locked(path)
    assert not is_locked(path)
