"""Against a real Milvus server: the binary inside the PyPI package milvus, 2.3.5, started here and stopped again."""

import os
import secrets
import shutil
import time

import numpy as np
import pytest
from animals import WordEncoder, animal_texts, exact_rows, write_passages
from pymilvus import MilvusClient
from real_milvus import PASSWORD, TOKEN, Server

from ragtune.errors import KnowledgeBaseError
from ragtune.knowledge.feature_repo import TOKEN_VARIABLE, batched_store, open_feature_store, passages_view
from ragtune.knowledge.garbage import Search
from ragtune.knowledge.knowledge_base import KnowledgeBase, drop_knowledge_base, ingest_passages
from ragtune.knowledge.milvus import connect_server
from ragtune.knowledge.workspace import ingest_into_workspace

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.uname().machine != "x86_64", reason="the binary is x86_64")]

QUESTIONS = ["the otter of the forest", "lynx eats roots", "number 42", "moth harbour moss"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("milvus"))
    yield server
    server.end()


@pytest.fixture
def token(monkeypatch):
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)


@pytest.fixture
def name():
    return f"animals_{secrets.token_hex(4)}"


def test_a_server_gives_what_embedded_milvus_gives(tmp_path, corpus, encoder, server, folder, name, token):
    ingest_passages(corpus, tmp_path / "remote", encoder, uri=server.uri, name=name)
    queries = encoder.encode(QUESTIONS)
    with KnowledgeBase.open(tmp_path / "remote") as remote, KnowledgeBase.open(folder) as embedded:
        for k in (1, 10, 301):
            over_the_wire, here = remote.search(queries, k), embedded.search(queries, k)
            assert np.array_equal(over_the_wire.mask, here.mask)
            np.testing.assert_allclose(over_the_wire.scores, here.scores, atol=1e-5)
        assert np.array_equal(over_the_wire.rows[:, :50], here.rows[:, :50])
        assert np.array_equal(over_the_wire.embeddings[:, :50], here.embeddings[:, :50])


def test_an_update_is_a_new_version_and_only_what_changed_is_embedded(tmp_path, corpus, encoder, server, name, token):
    options = {"name": name, "uri": server.uri}
    ingest_into_workspace(corpus, tmp_path / "run", encoder, tmp_path, **options)
    texts = animal_texts(310)
    texts["w5"] = "a fox crosses the tundra"
    for gone in ("w7", "w8", "w9"):
        del texts[gone]
    new = write_passages(tmp_path / "new.parquet", texts)
    counts = ingest_into_workspace(new, tmp_path / "run", encoder, tmp_path, **options)
    expected = {"rows": 307, "written": 307, "embedded": 11, "version": 2, "index_recall": 1}
    assert expected.items() <= counts.items()
    assert ingest_into_workspace(new, tmp_path / "run", encoder, tmp_path, **options)["written"] == 0
    queries = encoder.encode(QUESTIONS)
    with KnowledgeBase.open(tmp_path / "run") as base:
        assert base.search(queries, 5).rows.tolist() == exact_rows(encoder, base.passages, queries, 5).tolist()


def test_runs_without_a_workspace_share_a_collection_that_stays_loaded_for_its_readers(
    tmp_path, corpus, encoder, server, name, token, monkeypatch
):
    options = {"name": name, "uri": server.uri, "travels": True}
    released, release = [], MilvusClient.release_collection
    monkeypatch.setattr(MilvusClient, "release_collection", lambda *a, **o: (released.append(a), release(*a, **o)))
    first = ingest_into_workspace(corpus, tmp_path / "first", encoder, tmp_path / "pod 1", **options)
    assert first["written"] == 300
    before = len(released)
    with KnowledgeBase.open(tmp_path / "first") as base:
        again = ingest_into_workspace(corpus, tmp_path / "second", encoder, tmp_path / "pod 2", **options)
        assert (again["written"], len(released)) == (0, before)  # it would be an error to a search under way
        assert base.search(encoder.encode(QUESTIONS), 5).mask.all()


def test_a_new_version_is_switched_to_while_readers_keep_the_old(tmp_path, corpus, encoder, server, name, token):
    queries = encoder.encode(QUESTIONS)
    ingest_passages(corpus, tmp_path / "base", encoder, uri=server.uri, name=name)
    with KnowledgeBase.open(tmp_path / "base") as old:
        before = old.search(queries, 3)
        other = WordEncoder(dimension=16, seed=1)
        assert ingest_passages(corpus, tmp_path / "base", other, uri=server.uri, name=name).version == "kb_v2"
        assert np.array_equal(old.search(queries, 3).rows, before.rows)
    with KnowledgeBase.open(tmp_path / "base", encoder_fingerprint=other.fingerprint) as new:
        assert new.search(other.encode(QUESTIONS), 3).embeddings.shape == (4, 3, 16)


def test_a_dropped_base_leaves_nothing_on_the_server_and_others_alone(tmp_path, corpus, encoder, server, name, token):
    for folder in ("one", "two"):
        ingest_passages(corpus, tmp_path / folder, encoder, uri=server.uri, name=f"{name}_{folder}")
    drop_knowledge_base(tmp_path / "one")
    client = connect_server(server.uri, TOKEN)
    assert all(known.startswith(f"{name}_two_") for known in client.list_collections() if name in known)
    client.close()
    assert not (tmp_path / "one").exists()
    with KnowledgeBase.open(tmp_path / "two") as base:
        assert base.search(encoder.encode(QUESTIONS), 1).rows.shape == (4, 1)


def test_two_folders_on_one_server_do_not_take_each_others_collections(tmp_path, corpus, encoder, server, name, token):
    options = {"uri": server.uri, "name": name}
    fewer = write_passages(tmp_path / "fewer.parquet", animal_texts(20))
    for folder, passages in (("one", corpus), ("two", fewer)):
        assert ingest_passages(passages, tmp_path / folder, encoder, **options).version == "kb_v1"
    for folder, rows in (("one", 300), ("two", 20)):
        with KnowledgeBase.open(tmp_path / folder) as base:
            assert base.search(encoder.encode(QUESTIONS), 301).mask.sum(axis=1).tolist() == [rows] * 4


@pytest.mark.usefixtures("own_temporary_folder")
def test_garbage_on_a_server_goes_with_its_version_or_when_that_was_deleted(
    tmp_path, corpus, encoder, server, name, token
):
    root = tmp_path / "knowledge_bases" / name
    for count in (20, 10, 5):
        passages = write_passages(tmp_path / "passages.parquet", animal_texts(count))
        ingest_passages(passages, root, encoder, uri=server.uri, name=name, index="FLAT")
    shutil.rmtree(root / "kb_v1")
    found = Search(tmp_path).run().garbage
    assert sorted(item.kind for item in found) == ["collection", "version"]
    for item in found:
        item.remove()
    client = connect_server(server.uri, TOKEN)
    (left,) = [known for known in client.list_collections() if name in known]
    client.close()
    assert left.endswith("_kb_v3") and Search(tmp_path).run().garbage == []


def test_a_collection_that_the_server_lost_is_written_again(tmp_path, corpus, encoder, server, name, token):
    options = {"uri": server.uri, "name": name}
    ingest_passages(corpus, tmp_path / "base", encoder, **options)
    store = open_feature_store(tmp_path / "base" / "kb_v1")
    online = batched_store(store)
    online.drop(store.config, passages_view("kb_v1", 32))
    online.disconnect()
    with pytest.raises(KnowledgeBaseError, match="Milvus holds no such collection"):
        KnowledgeBase.open(tmp_path / "base")
    ingest_passages(corpus, tmp_path / "base", encoder, **options)
    with KnowledgeBase.open(tmp_path / "base") as base:
        assert base.search(encoder.encode(QUESTIONS), 5).mask.all()


def test_the_token_can_be_passed_and_is_never_written_or_shown(
    tmp_path, corpus, encoder, server, name, monkeypatch, caplog, capfd
):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    caplog.set_level("DEBUG")
    ingest_passages(corpus, tmp_path / "base", encoder, uri=server.uri, name=name, token=TOKEN)
    with KnowledgeBase.open(tmp_path / "base", token=TOKEN) as base:
        assert base.search(encoder.encode(QUESTIONS), 1).mask.all()
    files = [path for path in (tmp_path / "base").rglob("*") if path.is_file()]
    assert all(PASSWORD.encode() not in path.read_bytes() for path in files)
    shown = capfd.readouterr()
    assert PASSWORD not in caplog.text + shown.out + shown.err


@pytest.mark.parametrize("wrong", ["root:guess", ""])
def test_a_wrong_token_is_named_but_not_repeated(tmp_path, corpus, encoder, server, name, monkeypatch, wrong):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    with pytest.raises(KnowledgeBaseError, match=rf"{server.uri}: Milvus refuses the token") as refused:
        ingest_passages(corpus, tmp_path / "base", encoder, uri=server.uri, name=name, token=wrong)
    assert "guess" not in str(refused.value)
    assert encoder.embedded == 0


def test_a_server_that_dies_is_named_in_seconds(tmp_path, corpus, encoder, server, name, token):
    ingest_passages(corpus, tmp_path / "base", encoder, uri=server.uri, name=name)
    copy = shutil.copytree(tmp_path / "base", tmp_path / "copy")
    with KnowledgeBase.open(tmp_path / "base") as base:
        server.kill()
        start = time.monotonic()
        with pytest.raises(KnowledgeBaseError, match="Milvus does not answer"):
            base.search(encoder.encode(QUESTIONS), 3)
        with pytest.raises(KnowledgeBaseError, match="no Milvus answers there"):
            KnowledgeBase.open(copy)
    assert time.monotonic() - start < 60
