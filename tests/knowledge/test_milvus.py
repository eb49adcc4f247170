import gc
import time

import pytest
from real_milvus import free_port

from ragtune.errors import KnowledgeBaseError
from ragtune.knowledge import milvus
from ragtune.knowledge.knowledge_base import KnowledgeBase, ingest_passages
from ragtune.knowledge.milvus import close_embedded, connect_embedded, connect_server


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


def test_ingestion_into_an_unreachable_server_embeds_nothing_first(tmp_path, corpus, encoder, impatient):
    with pytest.raises(KnowledgeBaseError, match="no Milvus answers there"):
        ingest_passages(corpus, tmp_path / "base", encoder, uri=f"http://127.0.0.1:{free_port()}")
    assert encoder.embedded == 0


def test_something_else_that_listens_there_is_no_milvus(impatient, http_server):
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
