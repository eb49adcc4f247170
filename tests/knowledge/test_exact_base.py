import shutil

import numpy as np
import pytest
from animals import WordEncoder, animal_texts, exact_rows, write_passages

from ragtune.errors import KnowledgeBaseError
from ragtune.knowledge.exact_base import ExactKnowledgeBase
from ragtune.knowledge.knowledge_base import KnowledgeBase, ingest_passages
from ragtune.knowledge.leases import live_holders
from ragtune.knowledge.pointers import write_pointer

QUESTIONS = ["the otter of the forest", "lynx eats roots", "moth harbour moss"]


def test_it_finds_what_brute_force_finds_without_milvus(folder, version, encoder):
    shutil.rmtree(version / "milvus.db")
    (version / "registry.db").unlink()
    queries = encoder.encode(QUESTIONS)
    with ExactKnowledgeBase.open(folder, encoder_fingerprint=encoder.fingerprint) as base:
        found = base.search(queries, 10)
        assert np.array_equal(found.rows, exact_rows(encoder, base.passages, queries, 10))
        assert np.array_equal(found.embeddings, encoder.encode_passages(list(base.passages))[found.rows])
        np.testing.assert_allclose(found.scores, np.einsum("bd,bkd->bk", queries, found.embeddings), rtol=1e-6)
        everything = base.search(queries, 301)
        assert everything.rows[:, 300].tolist() == [-1] * 3
        assert base.search(queries[:0], 5).embeddings.shape == (0, 5, 32)


def test_it_gives_what_a_flat_index_gives(folder, encoder):
    queries = encoder.encode(QUESTIONS)
    with ExactKnowledgeBase.open(folder) as exact, KnowledgeBase.open(folder) as indexed:
        one, other = exact.search(queries, 20), indexed.search(queries, 20)
    assert np.array_equal(one.rows, other.rows)
    assert np.array_equal(one.scores, other.scores)


def test_a_pointer_opens_the_version_that_it_means(folder, tmp_path, encoder):
    write_pointer(tmp_path / "artifact", folder)
    ingest_passages(write_passages(tmp_path / "new.parquet", animal_texts(10)), folder, encoder)
    with ExactKnowledgeBase.open(tmp_path / "artifact") as meant, ExactKnowledgeBase.open(folder) as served:
        assert (len(meant.passages), len(served.passages)) == (300, 10)


def test_what_does_not_fit_is_refused(folder, encoder):
    with pytest.raises(KnowledgeBaseError, match=r"kb_v1: was made with the encoder words-0 .*not with the one"):
        ExactKnowledgeBase.open(folder, encoder_fingerprint=WordEncoder(seed=1).fingerprint)
    with ExactKnowledgeBase.open(folder) as base:
        with pytest.raises(KnowledgeBaseError, match="the vectors have 32 dimensions"):
            base.search(np.zeros((1, 31), np.float32), 3)
        with pytest.raises(KnowledgeBaseError, match="k = 0: must be at least 1"):
            base.search(np.zeros((1, 32), np.float32), 0)


def test_a_version_that_is_searched_is_leased(folder, version):
    with ExactKnowledgeBase.open(folder):
        assert len(live_holders(version, 0)) == 1
    assert live_holders(version, 0) == []


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_missing_and_damaged_vectors_are_named(folder, version, damage):
    if damage == "gone":
        (version / "vectors.npy").unlink()
    else:
        np.save(version / "vectors.npy", np.roll(np.load(version / "vectors.npy"), 1, axis=0))
    with pytest.raises(KnowledgeBaseError, match=r"kb_v1: vectors.npy: missing or damaged; run ingest_passages again"):
        ExactKnowledgeBase.open(folder)
    assert live_holders(version, 0) == []
