"""Connections to Milvus, embedded or a server, and what its errors mean to a user."""

import contextlib
import errno
import fcntl
import gc
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import grpc
from milvus_lite.server_manager import server_manager_instance
from pymilvus import MilvusClient, MilvusException

from ragtune.errors import KnowledgeBaseError, TakenError, UnavailableError
from ragtune.knowledge.address import wait_until_listening

CONNECT_SECONDS = 10.0  # how long an unreachable server is tried
CALL_SECONDS = 120.0  # one call, its retries included
FLUSH_SECONDS = 3600.0  # an embedded database merges its segments first, a million rows in minutes
_INDEX_STALL_SECONDS = 600.0
_SYSTEM_FAILURES = (errno.ENOSPC, errno.EDQUOT, errno.ESTALE, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
# pymilvus pings every ten seconds; Milvus Lite takes more than one in five minutes for an attack, and hangs up. With a
# pool of its own a channel does not share the failures of an ended database whose port the new one happens to get.
_CHANNEL = {"grpc.keepalive_time_ms": 310_000, "grpc.use_local_subchannel_pool": 1}

# Both log each failure with a traceback before they raise it; the KnowledgeBaseError says it once, and clearer.
for _name in ("pymilvus", "milvus_lite"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

_users: Counter[str] = Counter()  # how many clients of this process share an embedded database
_users_lock = threading.Lock()


def connect_embedded(path: Path) -> MilvusClient:
    """Open the Milvus Lite database in a folder; clients in this process share it, other processes are shut out.

    Raises:
        TakenError: another process has it open.
        KnowledgeBaseError: it cannot be opened.
    """
    place = str(path.absolute())
    with _users_lock, translated_errors(place):
        path.parent.mkdir(parents=True, exist_ok=True)
        check_no_other_owner(path)
        try:
            client = MilvusClient(place, grpc_options=_CHANNEL)
        except MilvusException:
            check_no_other_owner(path)  # which may have come first by a moment
            raise
        _users[place] += 1
    return client


def close_embedded(path: Path, client: MilvusClient) -> None:
    """Close a client of `connect_embedded`; the last one lets other processes in."""
    place = str(path.absolute())
    client.close()
    with _users_lock:
        _users[place] -= 1
        if not _users[place]:
            server_manager_instance.release_server(place)


def connect_server(uri: str, token: str) -> MilvusClient:
    """Connect to a Milvus server, trying for `CONNECT_SECONDS` while nothing listens there.

    Raises:
        KnowledgeBaseError: it cannot be reached, or refuses the token.
    """
    wait_until_listening(uri, CONNECT_SECONDS)
    with translated_errors(uri):
        return MilvusClient(uri=uri, token=token, timeout=CONNECT_SECONDS, grpc_options=_CHANNEL)


@contextlib.contextmanager
def translated_errors(place: str) -> Iterator[None]:
    """Turn what pymilvus raises into a KnowledgeBaseError that names the place and the way out."""
    try:
        yield
    except MilvusException as error:
        kind = UnavailableError if _does_not_answer(error) or _system_failed(error) else KnowledgeBaseError
        raise kind(f"{place}: {_explain(error)}") from error
    except grpc.RpcError as error:  # flush waits by itself, and lets gRPC's own error through
        raise UnavailableError(f"{place}: Milvus did not answer in time; run again: it resumes") from error


def index_rows(client: MilvusClient, collection: str, rows: int, place: str) -> None:
    """Put all rows of a collection under its index and wait for it; where they are, leave it to those who read it.

    Args:
        client, collection, place: of the collection.
        rows: that it has on a server; -1 in an embedded database, which calls rows indexed before they are.

    Raises:
        KnowledgeBaseError: as `wait_for_index`.
    """
    (name,) = client.list_indexes(collection) or [""]
    told = client.describe_index(collection, name) or {}
    if int(told.get("indexed_rows", 0)) != rows or int(told.get("pending_index_rows", 0)):
        client.release_collection(collection, timeout=CALL_SECONDS)
        client.flush(collection, timeout=FLUSH_SECONDS)
        wait_for_index(client, collection, place)
    client.load_collection(collection)


def wait_for_index(client: MilvusClient, collection: str, place: str) -> None:
    """Come back once all rows of a collection are under its index.

    Raises:
        KnowledgeBaseError: it does not grow for `_INDEX_STALL_SECONDS`.
    """
    last, changed = -1, time.monotonic()
    for pause in repeat(0.2):
        (name,) = client.list_indexes(collection) or [""]
        pending = int((client.describe_index(collection, name) or {}).get("pending_index_rows", 0))
        if pending <= 0:
            return
        if pending != last:
            last, changed = pending, time.monotonic()
        if time.monotonic() - changed > _INDEX_STALL_SECONDS:
            raise KnowledgeBaseError(
                f"{place}: {pending:,} rows of {collection} have waited {_INDEX_STALL_SECONDS:.0f} s for "
                "their index; look into the log of Milvus' index node, then run again"
            )
        time.sleep(pause)


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Switch Python's cyclic garbage collector off inside the block.

    Milvus Lite makes dicts and lists of every hit, and the collector, which their number wakes, then walks through all
    that Feast and PyTorch have imported: a third of a search's time, for nothing, as no cycle goes through them.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _explain(error: MilvusException) -> str:
    text = str(error.message)
    lower = text.lower()
    call = error.__cause__
    refused = isinstance(call, grpc.RpcError) and call.code() == grpc.StatusCode.UNAUTHENTICATED
    if refused or "auth" in lower or "permission" in lower or "privilege" in lower:
        return "Milvus refuses the token; set RAGTUNE_MILVUS_TOKEN to a valid user:password or API key"
    if "no space left" in lower or "enospc" in lower:
        return "the disk is full; free some space and run again, it resumes where it was"
    if _does_not_answer(error):
        return f"Milvus does not answer ({text}); is it running, and is this its URI?"
    return f"Milvus: {text}"


def _does_not_answer(error: MilvusException) -> bool:
    text = str(error.message).lower()
    return any(sign in text for sign in ("fail connecting", "unavailable", "deadline", "timeout"))


def _system_failed(error: MilvusException) -> bool:
    """True where an embedded database met what says nothing of its content, such as a full disk."""
    text = str(error.message).lower()
    return "enospc" in text or any(os.strerror(number).lower() in text for number in _SYSTEM_FAILURES)


def check_no_other_owner(path: Path) -> None:
    """Refuse an embedded database that another process has open.

    Raises:
        TakenError: one has.
        KnowledgeBaseError: its lock cannot be asked.
    """
    if is_open_elsewhere(path):
        raise TakenError(
            f"{path}: is open in another process, and an embedded Milvus has only one owner. Wait until that one "
            f"is done, or let both use a server: `milvus-lite server --data-dir {path} --host 127.0.0.1`"
        )


def is_open_elsewhere(path: Path) -> bool:
    """True where another process has an embedded database open.

    Raises:
        KnowledgeBaseError: its lock cannot be asked: the volume may not be written, or has no locks.
    """
    lock = path / "LOCK"
    if _users[str(path.absolute())] or not lock.exists():
        return False
    try:
        with open(lock, "r+b") as stream:  # for writing: NFS makes an exclusive lock a write lock
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        raise KnowledgeBaseError(
            f"{lock}: cannot be locked ({error.strerror}), and an embedded Milvus has only one owner; give this user "
            "the right to write there, copy the knowledge base to a volume with file locks, or use a Milvus server"
        ) from error
    return False
