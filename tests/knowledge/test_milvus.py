import errno
import fcntl
import gc
import os
import shutil
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from elsewhere import answer_from_elsewhere, open_and_ingest_as_nobody
from real_milvus import free_port

from ragtune.errors import KnowledgeBaseError, UnavailableError
from ragtune.knowledge import milvus
from ragtune.knowledge.knowledge_base import KnowledgeBase, ingest_passages
from ragtune.knowledge.milvus import close_embedded, connect_embedded, connect_server
from ragtune.knowledge.passages import Passages


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(milvus, "CONNECT_SECONDS", 1.0)


def test_an_unreachable_server_is_named_after_a_bounded_wait(impatient):
    uri = f"http://127.0.0.1:{free_port()}"
    start = time.monotonic()
    with pytest.raises(KnowledgeBaseError, match=rf"{uri}: no Milvus answers there .*tried for 1 s"):
        connect_server(uri, "")
    assert time.monotonic() - start < 5


def test_a_server_that_starts_late_is_waited_for(tmp_path, lite_server):
    connect_server(lite_server(tmp_path / "milvus.db"), "").close()


def test_a_new_server_on_the_port_of_an_ended_one_is_reached_at_once():
    """As channels stand, one that is never closed leaves its failures to others with the same address and options."""

    def serve(port):
        server = grpc.server(ThreadPoolExecutor(1))
        port = server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()
        return server, port

    def ask():
        channel = grpc.insecure_channel(f"127.0.0.1:{port}", list(milvus._CHANNEL.items()))
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary("/nothing/nothing")(b"", timeout=5)
        return channel, error.value.code()

    server, port = serve(0)
    left, code = ask()
    assert code == grpc.StatusCode.UNIMPLEMENTED
    server.stop(0).wait()
    for _ in range(3):
        with pytest.raises(grpc.RpcError):
            left.unary_unary("/nothing/nothing")(b"", timeout=5)
        time.sleep(0.3)
    server, _ = serve(port)
    assert ask()[1] == grpc.StatusCode.UNIMPLEMENTED
    server.stop(0)


def test_ingestion_into_an_unreachable_server_embeds_nothing_first(tmp_path, corpus, encoder, impatient):
    with pytest.raises(KnowledgeBaseError, match="no Milvus answers there"):
        ingest_passages(corpus, tmp_path / "base", encoder, uri=f"http://127.0.0.1:{free_port()}")
    assert encoder.embedded == 0


def test_something_else_that_listens_there_is_no_milvus(http_server):
    with pytest.raises(KnowledgeBaseError, match="Milvus does not answer"):
        connect_server(http_server, "")


def test_the_last_client_to_close_lets_others_in(tmp_path):
    path = tmp_path / "milvus.db"
    first, second = connect_embedded(path), connect_embedded(path)
    close_embedded(path, first)
    assert second.list_collections() == []
    close_embedded(path, second)
    third = connect_embedded(path)
    assert third.list_collections() == []
    close_embedded(path, third)


def test_a_server_that_goes_away_is_named_in_seconds(folder, encoder, lite_server):
    uri = lite_server(folder / "kb_v1" / "milvus.db")
    with KnowledgeBase.open(folder, uri=uri) as base:
        lite_server.kill()
        start = time.monotonic()
        with pytest.raises(KnowledgeBaseError, match=rf"{uri}: Milvus does not answer"):
            base.search(encoder.encode(["an otter"]), 3)
    assert time.monotonic() - start < 30


def test_the_garbage_collector_is_paused_during_a_search_only(folder, encoder):
    seen = []
    with KnowledgeBase.open(folder) as base:
        ask = base._search
        base._search = lambda queries, k: (seen.append(gc.isenabled()), ask(queries, k))[1]
        base.search(encoder.encode(["an otter"]), 3)
        with pytest.raises(KnowledgeBaseError, match="k = 0"):
            base.search(encoder.encode(["an otter"]), 0)
    assert seen == [False, False]
    assert gc.isenabled()


def test_a_garbage_collector_that_was_off_stays_off():
    gc.disable()
    try:
        with milvus.collector_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.fixture
def locked_as(monkeypatch):
    """Have every flock fail with an errno."""

    def make(number):
        def flock(stream, operation):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", flock)

    return make


def test_a_lock_is_asked_as_nfs_wants_it(folder, version, monkeypatch):
    """NFS turns an exclusive flock into a write lock, and answers EBADF for a file that is open for reading."""
    asked = []
    flock = fcntl.flock

    def as_on_nfs(stream, operation):
        number = stream if isinstance(stream, int) else stream.fileno()
        asked.append(number)
        if operation & fcntl.LOCK_EX and fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return flock(stream, operation)

    monkeypatch.setattr(fcntl, "flock", as_on_nfs)
    with KnowledgeBase.open(folder) as base:
        assert base.manifest.rows == 300
    assert asked


def test_a_volume_without_locks_is_named_and_not_taken_for_an_owner(folder, version, locked_as):
    locked_as(errno.ENOLCK)
    with pytest.raises(KnowledgeBaseError, match=rf"{version}/milvus.db/LOCK: cannot be locked \(No locks available\)"):
        KnowledgeBase.open(folder)


def test_an_ingestion_on_a_volume_without_locks_goes_by_its_claim_as_far_as_milvus_lite(
    folder, version, corpus, encoder, locked_as
):
    locked_as(errno.ENOLCK)
    with pytest.raises(KnowledgeBaseError, match=rf"{version}/milvus.db/LOCK: cannot be locked \(No locks available\)"):
        ingest_passages(corpus, folder, encoder)


def test_a_volume_that_only_root_may_write_is_named(folder, corpus):
    if os.geteuid():
        pytest.skip("needs another user")
    with tempfile.TemporaryDirectory() as name:
        base = shutil.copytree(folder, f"{name}/base")
        shutil.copy(corpus, name)
        for path in (Path(name), *Path(name).rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        opened, ingested = answer_from_elsewhere(open_and_ingest_as_nobody, base, f"{name}/{corpus.name}")
        Path(name).chmod(0o700)
        (hidden,) = answer_from_elsewhere(open_and_ingest_as_nobody, base, f"{name}/{corpus.name}")[:1]
    assert f"{base}/kb_v1/milvus.db" in opened and "give this user the right to write there" in opened
    assert f"{base}/.ingestion.json: may not be written (Permission denied)" in ingested
    assert f"{base}/knowledge_base.json: may not be read" in hidden


def test_a_read_only_volume_is_named(folder, version, corpus, encoder):
    if os.geteuid() or subprocess.run(["mount", "--bind", folder, folder]).returncode:
        pytest.skip("needs the right to mount")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        with pytest.raises(KnowledgeBaseError, match=rf"{version}/milvus.db/LOCK: .*Read-only file system.*give this"):
            KnowledgeBase.open(folder)
        with pytest.raises(KnowledgeBaseError, match=r"/.ingestion.json: may not be written \(Read-only file"):
            ingest_passages(corpus, folder, encoder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_database_that_takes_too_long_is_named_and_resumed(tmp_path, corpus, encoder, monkeypatch):
    with monkeypatch.context() as hurried:
        hurried.setattr(milvus, "FLUSH_SECONDS", 1e-4)
        with pytest.raises(UnavailableError, match=r"milvus\.db: Milvus did not answer in time; run again: it resumes"):
            ingest_passages(corpus, tmp_path / "base", encoder)
    assert ingest_passages(corpus, tmp_path / "base", encoder).rows == len(Passages.open(corpus))
