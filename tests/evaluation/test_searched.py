import numpy as np
import pyarrow as pa
import pytest

from ragtune.evaluation.searched import Searched, searched
from ragtune.knowledge.exact import ranked
from ragtune.knowledge.knowledge_base import KnowledgeBase, ingest_passages
from ragtune.knowledge.passages import Passages

ROWS = 60


class Numbers:
    """Knows the vector of passage n beforehand."""

    name, fingerprint, dimension, precision = "numbers", "0" * 64, 8, "float32"
    vectors = np.random.default_rng(0).normal(size=(ROWS, 8)).astype(np.float32)

    def encode_passages(self, passages):
        return self.vectors[[int(passage.id) for passage in passages]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("searched")
    ids = [str(row) for row in range(ROWS)]
    Passages(pa.table({"id": ids, "text": [f"text {row}" for row in ids]})).save(folder / "passages.parquet")
    ingest_passages(folder / "passages.parquet", folder / "base", Numbers())
    return folder / "base"


@pytest.fixture
def queries():
    return np.random.default_rng(1).normal(size=(10, 8)).astype(np.float32)


def test_a_flat_index_finds_all_that_exact_search_finds(folder, queries):
    with searched(folder, Numbers.fingerprint) as base:
        assert base.index_recall() == {}
        for part in (queries[:4], queries[4:], queries[:0]):
            base.search(part, 20)
        assert base.index_recall() == {"index_recall@1": 1, "index_recall@5": 1, "index_recall@20": 1}


def test_an_index_that_misses_the_best_passage_is_told(folder, queries, monkeypatch):
    with KnowledgeBase.open(folder) as base:
        search = base.search

        def without_the_best(queries, k):
            found = search(queries, k + 1)
            return ranked(queries, found.rows[:, 1:], Numbers.vectors)

        monkeypatch.setattr(base, "search", without_the_best)
        side = Searched(base)
        side.search(queries, 20)
        side.close()
        assert side.index_recall() == {"index_recall@1": 0, "index_recall@5": 0.8, "index_recall@20": 0.95}


def test_padding_counts_for_nothing(folder, queries):
    with searched(folder, "") as base:
        found = base.search(queries, ROWS + 20)
        assert not found.mask[:, ROWS:].any()
        assert set(base.index_recall().values()) == {1}


def test_exact_search_has_no_index(folder, queries):
    with searched(folder, "", "exact") as exact, searched(folder, "", "gather") as indexed:
        one, other = exact.search(queries, 5), indexed.search(queries, 5)
        assert np.array_equal(one.rows, other.rows)
        assert np.array_equal(one.scores, other.scores)
        assert exact.index_recall() == {}
        assert exact.manifest == indexed.manifest
