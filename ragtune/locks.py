"""A file's lock, held by one process at a time, on local disks and on NFS."""

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ragtune.errors import StorageError
from ragtune.files import describe_write_error

IN_USE = ".in-use.lock"  # in a temporary folder: held as long as it is needed, however long nothing changes in it
_POLL_SECONDS = 0.1
_SAID_AFTER_SECONDS = 5.0
_log = logging.getLogger(__name__)


@contextlib.contextmanager
def locked(path: str | Path, wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold the lock of the file `path` for the block; the kernel releases it if this process dies.

    The file is made where it is missing, and only its holder may remove it. It is opened for writing, since NFS grants
    an exclusive lock on nothing less. The lock is not re-entrant.

    Args:
        path: of the lock file; its folder is made.
        wait_seconds: how long to wait for another process; 0 does not wait.

    Raises:
        StorageError: another process holds it still, the place may not be written, or its file system has no locks.
    """
    path = Path(path)
    stream = _opened(path)
    try:
        _acquire(stream.fileno(), path, wait_seconds)
        while not _stands_at(path, stream.fileno()):  # its holder has removed it, and somebody may hold another one
            stream.close()
            stream = _opened(path)
            _acquire(stream.fileno(), path, wait_seconds)
        yield
    finally:
        stream.close()


def is_locked(path: Path) -> bool:
    """True where a process holds the lock of a file, or the lock cannot be asked; nothing is made."""
    try:
        with open(path, "r+b") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _opened(path: Path) -> IO[str]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(path, "a")
    except OSError as error:
        told = describe_write_error(error, path)
        if told is error:
            told = StorageError(f"{path}: cannot be made ({error.strerror}); choose another place")
        raise told from error


def _stands_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _acquire(descriptor: int, path: Path, wait_seconds: float) -> None:
    started, said = time.monotonic(), False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            waited = time.monotonic() - started
            if waited >= wait_seconds:
                raise StorageError(
                    f"{path}: held by another process"
                    + (f" for {waited:.0f} seconds" if wait_seconds else "")
                    + "; wait for that one or end it, then run again"
                ) from error
            if waited > _SAID_AFTER_SECONDS and not said:
                _log.warning("%s: waiting for another process, at most %.0f seconds", path, wait_seconds)
                said = True
        except OSError as error:
            raise StorageError(
                f"{path}: no lock can be had there ({error.strerror}); use a volume whose file system has locks"
            ) from error
        time.sleep(_POLL_SECONDS)
