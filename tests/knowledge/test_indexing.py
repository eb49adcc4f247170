import numpy as np
import pandas as pd
import pytest
import yaml
from dpr_vectors import dpr_vectors, found_of_exact, questions_on

from ragtune.errors import KnowledgeBaseError
from ragtune.knowledge.feature_repo import (
    apply_view,
    batched_store,
    index_of,
    open_feature_store,
    passages_view,
    write_feature_repo,
)
from ragtune.knowledge.index import FLAT, GRAPH, Index, first_index, next_index
from ragtune.knowledge.indexing import build_index
from ragtune.knowledge.online_store import BatchedMilvusOnlineStore


def rows_of(ids):
    return np.array([int(identifier[1:]) for identifier in ids], np.int64)


class Written:
    """Vectors written into a version of their own, without their mean or with it."""

    def __init__(self, folder, vectors, centred=True):
        write_feature_repo(folder, "passages", "", GRAPH)
        self.folder, self.vectors = folder, vectors
        self.mean = vectors.mean(axis=0) if centred else None
        self.store = open_feature_store(folder)
        self.view = passages_view("kb_v1", vectors.shape[1])
        apply_view(self.store, folder, self.view)
        frame = pd.DataFrame({"id": [f"p{row}" for row in range(len(vectors))]})
        frame["title"], frame["text"], frame["content_hash"] = "", "text", "hash"
        frame["embedding"] = list(vectors if self.mean is None else vectors - self.mean)
        frame["event_timestamp"] = pd.Timestamp.now("UTC")
        self.store.write_to_online_store("kb_v1", df=frame)

    def build(self):
        return build_index(self.store, self.view, self.folder, rows_of, self.vectors, self.mean)

    def search(self, queries, k):
        ids, *_ = batched_store(self.store).search_batch(self.store.config, self.view, queries, k)
        return rows_of(ids.ravel()).reshape(ids.shape)

    def finds(self):
        """The least, at 1, 5 and 20, of the share that it finds of the gold passages that exact search finds."""
        asked, queries = questions_on(self.vectors, 200)
        rows = self.search(queries, 20)
        return min(found_of_exact(self.vectors, queries, asked, rows, k) for k in (1, 5, 20))


@pytest.fixture
def written(tmp_path):
    made = []

    def write(*args, **options):
        made.append(Written(tmp_path, *args, **options))
        return made[-1]

    yield write
    for one in made:
        batched_store(one.store).disconnect()


@pytest.mark.parametrize("norms", [1, 3])
def test_a_graph_without_the_mean_finds_what_exact_search_finds(written, norms):
    base = written(dpr_vectors(2000, 64, norms))
    built = base.build()
    assert (built.index.kind, built.found.satisfies) == ("HNSW", True)
    assert base.finds() >= 0.97


def test_a_graph_that_finds_too_little_is_replaced_until_one_does(written, capsys):
    """With their mean in it, as all knowledge bases had it, no graph is good enough."""
    base = written(dpr_vectors(2000, 64, 3), centred=False)
    batched_store(base.store).build_index(base.store.config, base.view)
    assert base.finds() < 0.9
    built = base.build()
    assert built.index == FLAT
    assert base.finds() == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.rpartition("trying ")[2] for line in lines[:3]] == [
        "HNSW with M 16 and ef 640",
        "HNSW with M 32 and ef 640",
        "FLAT",
    ]
    assert lines[3].startswith("index: FLAT finds 100.0% of the passages that exact search finds, in ")
    online = yaml.safe_load((base.folder / "feature_store.yaml").read_text())["online_store"]
    assert (online["index_type"], online["index_params"], online["search_params"]) == ("FLAT", {}, {})
    assert index_of(open_feature_store(base.folder)) == FLAT


def test_milvus_lite_builds_the_graph_that_it_is_asked_for(written):
    base = written(dpr_vectors(2000, 64, 3))
    base.build()
    online, config = batched_store(base.store), base.store.config.online_store
    config.index_params, config.search_params = {"M": 2, "efConstruction": 10}, {"ef": 20}
    online.rebuild_index(base.store.config, base.view)
    assert base.finds() < 0.9


def test_an_index_that_finds_too_little_even_when_flat_is_refused(written, monkeypatch):
    search = BatchedMilvusOnlineStore.search_batch

    def forgetful(*args, **options):
        ids, *others = search(*args, **options)
        return np.roll(ids, 1, axis=0), *others

    base = written(dpr_vectors(300, 16))
    monkeypatch.setattr(BatchedMilvusOnlineStore, "search_batch", forgetful)
    monkeypatch.setattr("ragtune.knowledge.indexing._COMPARED", 0)
    with pytest.raises(KnowledgeBaseError, match=r"FLAT finds .*% of the passages .*; nothing was switched"):
        base.build()


def test_vectors_that_come_back_changed_are_refused(written):
    base = written(dpr_vectors(300, 16))
    base.vectors = base.vectors * np.float32(1.01)
    with pytest.raises(KnowledgeBaseError, match="gives back other vectors than were written"):
        base.build()


def test_a_small_knowledge_base_is_flat_and_a_large_one_a_graph():
    assert first_index("auto", 10_000, 768).kind == "FLAT"
    assert first_index("auto", 50_000, 384).kind == "HNSW"
    assert [first_index(choice, 10, 10).kind for choice in ("HNSW", "FLAT")] == ["HNSW", "FLAT"]
    assert [first_index(choice, 10**7, 768).kind for choice in ("HNSW", "FLAT")] == ["HNSW", "FLAT"]


def test_a_graph_of_other_parameters_is_followed_by_flat():
    assert next_index(Index("HNSW", {"M": 8, "efConstruction": 40}, {"ef": 50})) == FLAT
    assert next_index(FLAT) is None
