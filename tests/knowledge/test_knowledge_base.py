import shutil

import numpy as np
import pytest
from animals import WordEncoder, animal_texts, exact_rows, write_passages
from elsewhere import answer_from_elsewhere, ingest_and_count, rows_or_error

from ragtune.errors import KnowledgeBaseError
from ragtune.knowledge import knowledge_base
from ragtune.knowledge.knowledge_base import (
    KnowledgeBase,
    drop_knowledge_base,
    ingest_passages,
)
from ragtune.knowledge.pointers import write_pointer
from ragtune.knowledge.retrieved import PADDING_ROW

QUESTIONS = ["the otter of the forest", "lynx eats roots", "number 42"]


def test_search_finds_what_exact_search_finds(folder, encoder):
    queries = encoder.encode(QUESTIONS)
    with KnowledgeBase.open(folder, encoder_fingerprint=encoder.fingerprint) as base:
        found = base.search(queries, 10)
        assert found.rows.tolist() == exact_rows(encoder, base.passages, queries, 10).tolist()
        assert (found.rows.dtype, found.scores.dtype, found.embeddings.dtype) == (np.int64, np.float32, np.float32)


def test_many_queries_go_in_several_calls_and_come_back_in_order(folder, encoder, monkeypatch):
    queries = encoder.encode(list(animal_texts(50).values()))
    with KnowledgeBase.open(folder) as base:
        together = base.search(queries, 3)
        monkeypatch.setattr(knowledge_base, "_QUERIES_PER_CALL", 7)
        parted = base.search(queries, 3)
    assert np.array_equal(together.rows, parted.rows)
    assert np.array_equal(together.embeddings, parted.embeddings)


def test_scores_and_embeddings_are_those_of_the_true_vectors_whatever_milvus_holds(tmp_path, corpus):
    encoder = WordEncoder()
    encoder.table += 1  # all vectors have much in common
    queries = encoder.encode(QUESTIONS)
    ingest_passages(corpus, tmp_path / "base", encoder, index="HNSW")
    with KnowledgeBase.open(tmp_path / "base") as base:
        found = base.search(queries, 10)
        true = encoder.encode_passages(list(base.passages))
    assert (base.folder / "mean.npy").exists()
    assert np.array_equal(found.embeddings, true[found.rows])
    np.testing.assert_allclose(found.scores, np.einsum("bd,bkd->bk", queries, found.embeddings), rtol=1e-6)
    assert np.array_equal(found.rows, exact_rows(encoder, base.passages, queries, 10))


def test_vectors_that_are_not_milvus_are_noticed(folder, version, encoder):
    vectors = np.load(version / "vectors.npy")
    np.save(version / "vectors.npy", np.roll(vectors, 1, axis=0))
    with (
        KnowledgeBase.open(folder) as base,
        pytest.raises(
            KnowledgeBaseError, match=r"Milvus holds other vectors .* damaged: vectors.npy; run ingest_passages"
        ),
    ):
        base.search(encoder.encode(QUESTIONS), 5)


def test_one_query_none_and_more_than_there_are(folder, encoder):
    query = encoder.encode(QUESTIONS[:1])
    with KnowledgeBase.open(folder) as base:
        assert base.search(query, 5).rows.shape == (1, 5)
        assert base.search(query[:0], 5).embeddings.shape == (0, 5, 32)
        found = base.search(query, 301)
    assert found.rows[0, 300] == PADDING_ROW
    assert np.isneginf(found.scores[0, 300])
    assert found.mask.sum() == 300


def test_the_manifest_says_what_it_is(folder, corpus, encoder):
    with KnowledgeBase.open(folder) as base:
        manifest = base.manifest
        assert manifest.content_hash == base.passages.content_hash
    assert (manifest.version, manifest.rows, manifest.dimension, manifest.metric) == ("kb_v1", 300, 32, "IP")
    assert (manifest.encoder, manifest.encoder_fingerprint) == (encoder.name, encoder.fingerprint)


def test_another_encoder_is_refused(folder):
    with pytest.raises(KnowledgeBaseError, match=r"kb_v1: was made with the encoder words-0 .*not with the one"):
        KnowledgeBase.open(folder, encoder_fingerprint=WordEncoder(seed=1).fingerprint)


def test_queries_of_another_dimension_are_refused(folder):
    with KnowledgeBase.open(folder) as base, pytest.raises(KnowledgeBaseError, match="holds vectors of 32 dimensions"):
        base.search(np.zeros((1, 31), np.float32), 3)


def test_a_pointer_opens_what_it_means_even_when_another_corpus_is_served(folder, tmp_path, encoder):
    write_pointer(tmp_path / "artifact", folder)
    with KnowledgeBase.open(tmp_path / "artifact") as base:
        assert base.search(encoder.encode(QUESTIONS), 1).rows.shape == (3, 1)
    ingest_passages(write_passages(tmp_path / "new.parquet", animal_texts(10)), folder, encoder)
    with KnowledgeBase.open(tmp_path / "artifact") as meant, KnowledgeBase.open(folder) as served:
        assert (meant.manifest.rows, served.manifest.rows) == (300, 10)


def test_a_moved_folder_still_opens(folder, tmp_path, encoder):
    folder.rename(tmp_path / "elsewhere")
    with KnowledgeBase.open(tmp_path / "elsewhere") as base:
        assert base.search(encoder.encode(QUESTIONS), 1).mask.all()


def test_several_in_one_process_share_the_database(folder, encoder):
    queries = encoder.encode(QUESTIONS)
    with KnowledgeBase.open(folder) as first:
        with KnowledgeBase.open(folder) as second:
            assert np.array_equal(first.search(queries, 3).rows, second.search(queries, 3).rows)
        assert first.search(queries, 3).mask.all()


def test_a_base_that_is_open_elsewhere_stands_in_no_ones_way(folder, tmp_path, encoder):
    queries, other = encoder.encode(QUESTIONS), write_passages(tmp_path / "other.parquet", animal_texts(20))
    with KnowledgeBase.open(folder) as base:
        before = base.search(queries, 3)
        assert answer_from_elsewhere(ingest_and_count, other, folder) == 20
        assert np.array_equal(base.search(queries, 3).rows, before.rows)


def test_a_second_process_is_told_what_to_do_and_let_in_after_closing(folder, version):
    with KnowledgeBase.open(folder):
        refused = answer_from_elsewhere(rows_or_error, folder)
    assert f"{version}/milvus.db: is open in another process" in refused
    assert "milvus-lite server" in refused
    assert answer_from_elsewhere(rows_or_error, folder) == 300


def test_several_processes_share_it_through_a_server_on_loopback(folder, version, encoder, lite_server):
    queries = encoder.encode(QUESTIONS)
    with KnowledgeBase.open(folder) as base:
        alone = base.search(queries, 5)
    uri = lite_server(version / "milvus.db")
    with KnowledgeBase.open(folder, uri=uri) as first, KnowledgeBase.open(folder, uri=uri) as second:
        assert np.array_equal(first.search(queries, 5).rows, alone.rows)
        assert np.array_equal(second.search(queries, 5).embeddings, alone.embeddings)


def test_a_database_that_is_gone_is_named(folder, version):
    shutil.rmtree(version / "milvus.db")
    with pytest.raises(KnowledgeBaseError, match="Milvus holds no such collection; run ingest_passages again"):
        KnowledgeBase.open(folder)


def test_a_registry_that_is_gone_is_named(folder, version):
    (version / "registry.db").unlink()
    with pytest.raises(KnowledgeBaseError, match=r"kb_v1 is not in Feast's registry"):
        KnowledgeBase.open(folder)


def test_passages_that_are_gone_are_named(folder, version):
    (version / "passages.arrow").unlink()
    with pytest.raises(KnowledgeBaseError, match=rf"{version}: passages.arrow is missing .*; run ingest_"):
        KnowledgeBase.open(folder)


def test_a_dropped_base_is_gone(tmp_path, corpus, encoder):
    ingest_passages(corpus, tmp_path / "base", encoder)
    drop_knowledge_base(tmp_path / "base")
    drop_knowledge_base(tmp_path / "base")  # again, and one that never was, is no error
    assert not (tmp_path / "base").exists()
