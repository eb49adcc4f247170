"""Leases: notes beside the versions of a knowledge base, of who needs which, so that none is removed under a reader.

A lease is a small file, leases/kb_v1/<name>.json in the knowledge base's folder. It names its holder: a process, a file
that points to the version, or a registered model; the time is the file's own. Holders on other machines cannot be
asked: their leases end when they have not been renewed for a while. A registered model's lasts until it is deleted.
"""

import contextlib
import hashlib
import json
import logging
import os
import socket
import time
from pathlib import Path

from ragtune.errors import StorageError
from ragtune.files import atomic_file

logger = logging.getLogger(__name__)

LEASES = "leases"
_RENEWED_EVERY_SECONDS = 3600.0
_OPENED = "somebody who has opened it through a pointer"


class Reading:
    """The lease of a process that has a version open; a context manager."""

    def __init__(self, version: Path):
        """Take it; on a volume that may not be written there is none, and a warning."""
        self._path = take(version, f"process {os.getpid()} on {socket.gethostname()}", process=os.getpid())
        self._renewed = time.monotonic()

    def renew(self) -> None:
        """Say that it is still needed, at most once an hour."""
        now = time.monotonic()
        if self._path and now - self._renewed > _RENEWED_EVERY_SECONDS:
            self._renewed = now
            with contextlib.suppress(OSError):
                os.utime(self._path)

    def __enter__(self) -> "Reading":
        return self

    def __exit__(self, *raised: object) -> None:
        self.release()

    def release(self) -> None:
        """Give it back."""
        if self._path:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)


def take(version: Path, holder: str, process: int = 0, lasting: bool = False) -> Path | None:
    """Take or renew a lease.

    Args:
        version: the version's folder.
        holder: the absolute path of a file that names the version; or a name for people.
        process: its id; 0 for anything else.
        lasting: it counts until its file is deleted.

    Returns:
        The lease's file; None where it cannot be written, or there is no such version.
    """
    if not version.is_dir():
        return None
    name = hashlib.sha256(f"{holder} {time.time_ns() if process else ''}".encode()).hexdigest()[:24]
    path = version.parent / LEASES / version.name / f"{name}.json"
    try:
        with atomic_file(path) as stream:
            json.dump({"holder": holder, "process": process, "host": this_host(), "lasting": lasting}, stream)
    except (OSError, StorageError) as error:
        logger.warning("%s: no lease can be taken (%s); `ragtune gc` will not know of this reader", version, error)
        return None
    return path


def renew_opened(version: Path) -> None:
    """Note that a version was opened through a pointer, which may be on a machine that cannot be asked."""
    take(version, _OPENED)


def live_holders(version: Path, keep_seconds: float) -> list[str]:
    """The holders of a version's leases, lasting ones first.

    Args:
        version: its folder.
        keep_seconds: how long a lease counts whose holder cannot be seen from here.
    """
    lasting, holders = [], []
    for path in sorted((version.parent / LEASES / version.name).glob("*.json")):
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            holder, process, host = str(told["holder"]), int(told["process"]), str(told["host"])
            age = time.time() - path.stat().st_mtime
        except FileNotFoundError:
            continue  # given back meanwhile
        except (OSError, ValueError, KeyError, TypeError):
            holders.append(f"{path}, which cannot be read")
            continue
        if told.get("lasting"):
            lasting.append(f"{holder}, until {path} is deleted")
            continue
        alive = process_holds(process, host) if process else _file_holds(Path(holder), version)
        if alive or (alive is None and age < keep_seconds):
            holders.append(holder)
    return lasting + holders


def process_holds(process: int, host: str) -> bool | None:
    """True while a process lives; None where that cannot be known, as it is on another machine."""
    return Path(f"/proc/{process}").exists() if host == this_host() else None


def _file_holds(holder: Path, version: Path) -> bool | None:
    """None where it cannot be seen from here, or not read."""
    from ragtune.knowledge.pointers import leads_to, pointer_from  # which takes leases

    try:
        return leads_to(pointer_from(json.loads(holder.read_text(encoding="utf-8"))), version)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def this_host() -> str:
    """The machine since it was started, and the namespace in which a process id means something."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()
