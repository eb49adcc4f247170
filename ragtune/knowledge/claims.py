"""A claim on a knowledge base: the right to change it, held by one process of all machines that share its volume.

A claim is a small file that names its holder and is touched every few seconds. The kernel's locks (`ragtune.locks`) are
exact, but say not who holds them, and some network file systems have none or keep them to one machine.
"""

import contextlib
import json
import logging
import os
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ragtune.errors import KnowledgeBaseError, StorageError
from ragtune.files import atomic_file, describe_write_error
from ragtune.knowledge.leases import process_holds, this_host

CLAIM = ".ingestion.json"  # in the knowledge base's folder
_TOUCHED_EVERY_SECONDS = 15.0
_DEAD_AFTER_SECONDS = 90.0  # without a touch, as the volume's own clock has it
_POLL_SECONDS = 1.0
_SETTLED_SECONDS = 1.0  # in which others that also took over from a dead holder have written their own
_SAID_EVERY_SECONDS = 300.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Holder:
    """Who holds a claim.

    Attributes:
        run: name of the run; "" for a process outside of one.
        process: its id.
        machine: its name, on a cluster the pod's.
        host: where the id means something.
        since: when it was claimed, ISO 8601, UTC.
        token: of this one claim.
    """

    run: str
    process: int = field(default_factory=os.getpid)
    machine: str = field(default_factory=socket.gethostname)
    host: str = field(default_factory=this_host)
    since: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    token: str = field(default_factory=lambda: secrets.token_hex(8))

    def __str__(self) -> str:
        run = f'the run "{self.run}"' if self.run else "another process"
        return f"{run} (process {self.process} on {self.machine}, since {self.since})"


_UNKNOWN = Holder("", 0, "an unknown machine", "", "a moment ago", "")


@contextlib.contextmanager
def claimed(folder: Path, run: str = "", wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold the claim on a knowledge base for the block.

    A holder whose process is gone, or that has not touched its claim for a minute and a half, is dead, and its claim is
    taken over.

    Args:
        folder: of the knowledge base; it is made.
        run: the name that others are told.
        wait_seconds: how long to wait for another holder; 0 does not wait.

    Raises:
        KnowledgeBaseError: another process holds it still; the message names it.
        StorageError: the folder may not be written.
    """
    own, started, said = Holder(run), time.monotonic(), float("-inf")
    while other := _other(folder, own):
        waited = time.monotonic() - started
        if waited >= wait_seconds:
            raise _busy(folder, other, f", for {waited:.0f} seconds and more" if wait_seconds else "")
        if waited - said > _SAID_EVERY_SECONDS:
            said = waited
            _log.warning("%s: %s is ingesting into it; waiting for at most %.0f s", folder, other, wait_seconds)
        time.sleep(_POLL_SECONDS)
    ended = threading.Event()
    touching = threading.Thread(target=_touch, args=(folder, own, ended), daemon=True)
    touching.start()
    try:
        yield
    finally:
        ended.set()
        touching.join()
        if _holder(folder) == own:
            (folder / CLAIM).unlink(missing_ok=True)


def check_free(folder: Path) -> None:
    """Raises KnowledgeBaseError where another process changes a knowledge base now."""
    if other := live_holder(folder):
        raise _busy(folder, other)


def _busy(folder: Path, other: Holder, how_long: str = "") -> KnowledgeBaseError:
    return KnowledgeBaseError(
        f"{folder}: {other} is ingesting into it{how_long}; run again when that is done, or let the run wait with "
        "when_busy=wait"
    )


def live_holder(folder: Path) -> Holder | None:
    """The process that changes a knowledge base now; None where there is none, or a dead one has left its claim.

    Raises:
        StorageError: the folder may not be written, whose clock is asked by a new file.
    """
    holder = _holder(folder)
    try:
        return None if holder is None or _is_dead(folder, holder) else holder
    except FileNotFoundError:
        return None  # given back meanwhile


def _is_dead(folder: Path, holder: Holder) -> bool:
    """Tell whether the writer of a claim is dead; raises FileNotFoundError where it is given back meanwhile."""
    if process_holds(holder.process, holder.host) is False:
        return True
    try:
        with tempfile.TemporaryDirectory(prefix=".clock.", dir=folder) as new:
            return Path(new).stat().st_mtime - (folder / CLAIM).stat().st_mtime >= _DEAD_AFTER_SECONDS
    except FileNotFoundError:
        raise
    except OSError as error:
        raise describe_write_error(error, folder) from error


def _other(folder: Path, own: Holder) -> Holder | None:
    """Who else holds the claim; None where it is `own` now.

    The claim that was judged is the one that is taken over: another that appears meanwhile is somebody's who lives.
    """
    dead = _holder(folder)
    try:
        if dead is not None and not _is_dead(folder, dead):
            return dead
    except FileNotFoundError:
        dead = None
    try:
        if dead is None:
            folder.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError), open(folder / CLAIM, "x", encoding="utf-8") as stream:
                stream.write(json.dumps(asdict(own)))  # one process alone can make a file, on NFS too
        elif _holder(folder) == dead:
            _log.warning("%s: %s is gone, and has left it half done; going on from there", folder, dead)
            with atomic_file(folder / CLAIM) as stream:
                json.dump(asdict(own), stream)
            time.sleep(_SETTLED_SECONDS)
    except OSError as error:
        told = describe_write_error(error, folder / CLAIM)
        raise told if told is not error else StorageError(f"{folder / CLAIM}: {error.strerror}") from error
    return None if (now := _holder(folder)) == own else now or _UNKNOWN


def _holder(folder: Path) -> Holder | None:
    """Who has written the claim, dead or alive; None where there is none."""
    try:
        return Holder(**json.loads((folder / CLAIM).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError):
        return _UNKNOWN  # that is writing it now, unless it is old


def _touch(folder: Path, own: Holder, ended: threading.Event) -> None:
    while not ended.wait(_TOUCHED_EVERY_SECONDS):
        if (now := _holder(folder)) not in (None, own, _UNKNOWN):  # unknown where the volume could not be read
            _log.error("%s: %s took this process for dead, and is ingesting too", folder, now)
            return
        with contextlib.suppress(OSError):  # a volume that hangs for a moment; the next touch may reach it
            os.utime(folder / CLAIM)
