import shutil
from pathlib import Path

import pytest
from animals import WordEncoder, animal_texts, exact_rows, write_passages

from ragtune.errors import KnowledgeBaseError, UnavailableError
from ragtune.knowledge import milvus, workspace
from ragtune.knowledge.embedding import embed_missing
from ragtune.knowledge.feature_repo import open_feature_store
from ragtune.knowledge.ingestion import only_one
from ragtune.knowledge.knowledge_base import KnowledgeBase, ingest_passages
from ragtune.knowledge.passages import Passages
from ragtune.knowledge.pointers import POINTER
from ragtune.knowledge.wanted import Wanted
from ragtune.knowledge.workspace import ingest_into_workspace

QUESTIONS = ["the otter of the forest", "lynx eats roots", "number 42"]


def test_a_workspace_keeps_the_base_and_the_run_keeps_a_pointer(tmp_path, corpus, encoder):
    counts = ingest_into_workspace(corpus, tmp_path / "run1", encoder, tmp_path / "workspace", name="animals")
    expected = {"rows": 300, "written": 300, "embedded": 300, "version": 1, "index_recall": 1, "index_replaced": 0}
    assert expected.items() <= counts.items()
    assert counts["search_ms"] > 0 and counts["index_seconds"] > 0
    counts = ingest_into_workspace(corpus, tmp_path / "run2", encoder, tmp_path / "workspace", name="animals")
    assert counts == {"rows": 300, "written": 0, "embedded": 0, "version": 1, "index_recall": 1}
    assert [path.name for path in Path(tmp_path / "run2").iterdir()] == ["knowledge_base.json"]
    with KnowledgeBase.open(tmp_path / "run2") as base:
        assert base.manifest.name == "animals"
    assert (tmp_path / "workspace" / "knowledge_bases" / "animals" / "kb_v1" / "feature_store.yaml").exists()


@pytest.fixture
def ingest(tmp_path, corpus, encoder, lite_server):
    """Ingest in a pod of its own, whose disk is gone afterwards; the artifact, which others get elsewhere."""
    uri = lite_server(tmp_path / "server")

    def in_a_pod(pod, passages=corpus, encoder=encoder):
        scratch, artifact = tmp_path / pod / "workspace", tmp_path / pod / "artifact"
        counts = ingest_into_workspace(passages, artifact, encoder, scratch, uri=uri, travels=True)
        assert not (artifact / "embeddings").exists()  # vectors.npy has them
        shutil.rmtree(scratch)
        return counts, Path(shutil.move(artifact, tmp_path / f"downloaded by {pod}'s next"))

    return in_a_pod


def wanted_of(folder, corpus, index, encoder):
    return Wanted(folder, Passages.open(corpus), encoder, "animals", index, "", "", "", 5000)


def collection(artifact):
    return open_feature_store(artifact / "kb_v1").project


def test_without_a_workspace_the_artifact_is_the_knowledge_base_wherever_it_is_downloaded(ingest, encoder, tmp_path):
    counts, first = ingest("first")
    assert counts.items() >= {"rows": 300, "written": 300, "embedded": 300, "version": 1}.items()
    counts, second = ingest("second")  # of the next run, which finds the collection, but not the first one's disk
    assert counts.items() >= {"written": 0, "embedded": 300}.items()
    assert collection(first) == collection(second)
    queries = encoder.encode(QUESTIONS)
    for artifact in (first, second):
        with KnowledgeBase.open(artifact, encoder_fingerprint=encoder.fingerprint) as base:
            assert base.search(queries, 5).rows.tolist() == exact_rows(encoder, base.passages, queries, 5).tolist()
    counts, third = ingest("third", passages=write_passages(tmp_path / "fewer.parquet", animal_texts(200)))
    assert counts["written"] == 200 and collection(third) != collection(first)


def test_other_vectors_of_the_same_passages_are_other_rows(tmp_path, corpus):
    names = {
        workspace._hash_of_rows(wanted)
        for number, kind in enumerate(("FLAT", "HNSW", "FLAT"))
        if embed_missing(
            (wanted := wanted_of(tmp_path / str(number), corpus, kind, WordEncoder(seed=number // 2))).passages,
            wanted.encoder,
            wanted.cache(wanted.manifest()),
        )
    }
    assert len(names) == 3


def test_a_server_that_is_gone_is_told_before_anything_is_embedded(tmp_path, corpus, encoder, monkeypatch):
    monkeypatch.setattr(milvus, "CONNECT_SECONDS", 0.1)
    encoder.encode = None
    options = {"uri": "http://127.0.0.1:1", "travels": True}
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1\b"):
        ingest_into_workspace(corpus, tmp_path / "artifact", encoder, tmp_path / "w", **options)
    assert not (tmp_path / "artifact" / POINTER).exists()


def test_a_base_beside_others_embeds_only_what_none_of_them_has_of_this_encoder(tmp_path):
    """A training of the passage encoder leaves a base of its own, and the next run starts from that encoder."""
    place, trained = tmp_path / "workspace", WordEncoder(seed=1)
    corpus = write_passages(tmp_path / "passages.parquet", animal_texts(20))
    ingest_passages(corpus, place / "knowledge_bases" / "animals-0123456789abcdef", trained)
    changed = write_passages(tmp_path / "changed.parquet", animal_texts(21))
    counts = ingest_into_workspace(changed, tmp_path / "run", trained, place, name="animals")
    assert (counts["rows"], counts["embedded"]) == (21, 1)
    with KnowledgeBase.open(tmp_path / "run") as base:
        queries = trained.encode(["otter", "number 20 of the marsh"])
        assert (base.search(queries, 3).rows == exact_rows(trained, base.passages, queries, 3)).all()


def test_a_run_that_shall_not_wait_is_refused_while_another_ingests(tmp_path, corpus, encoder):
    base = tmp_path / "workspace" / "knowledge_bases" / "animals"
    busy = pytest.raises(
        KnowledgeBaseError, match=r'animals: the run "nightly" \(process \d+ on .*\) is ingesting into it'
    )
    with only_one(base, run="nightly"), busy:
        ingest_into_workspace(
            corpus, tmp_path / "run", encoder, tmp_path / "workspace", name="animals", when_busy="refuse", run="mine"
        )
    assert not (tmp_path / "run").exists() and encoder.embedded == 0


def test_another_ingestion_is_not_waited_for_for_ever(tmp_path, corpus, encoder, monkeypatch):
    monkeypatch.setattr(workspace, "_WAIT_SECONDS", 0.2)
    base = tmp_path / "workspace" / "knowledge_bases" / "passages"
    with only_one(base), pytest.raises(KnowledgeBaseError, match=r"is ingesting into it, for \d+ seconds and more"):
        ingest_into_workspace(corpus, tmp_path / "run", encoder, tmp_path / "workspace")
