"""The index over the rows of a version: built, probed, and replaced by a stronger one where it finds too little."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ragtune.errors import KnowledgeBaseError
from ragtune.knowledge.exact import Floats, Rows, Vectors
from ragtune.knowledge.feast_names import FeatureStore, FeatureView
from ragtune.knowledge.feature_repo import batched_store, index_of, write_index
from ragtune.knowledge.index import Index, next_index
from ragtune.knowledge.milvus import collector_paused
from ragtune.knowledge.probe import Found, Probe
from ragtune.knowledge.retrieved import PADDING_ROW
from ragtune.progress import say

_QUESTIONS_AT_ONCE = 128
_COMPARED = 64  # questions whose passages' stored vectors are compared with what was written


@dataclass(frozen=True)
class Built:
    """An index that finds enough.

    Attributes:
        index: which.
        found: what the probe says of it.
        seconds: that building and probing took, earlier tries included.
        replaced: number of indexes before it that found too little.
    """

    index: Index
    found: Found
    seconds: float
    replaced: int


def build_index(
    store: FeatureStore,
    view: FeatureView,
    folder: Path,
    rows_of: Callable[[Sequence[str]], Rows],
    vectors: Vectors,
    mean: Floats | None,
) -> Built:
    """Put all rows under the index, and then under stronger ones until one finds what exact search finds.

    A graph over inner products misses passages where all vectors have much in common, as DPR's do, unless their mean is
    taken off: q·(v − mean) differs from q·v by the same amount for every passage of a question, so the ranking stays.

    Args:
        store: Feast's, with the index to begin with; feature_store.yaml is written again with the one that serves.
        view: of the version.
        folder: of the version.
        rows_of: the rows of passages by id, -1 for an id that there is not.
        vectors: true ones, of all passages.
        mean: that was taken off before they were written.

    Raises:
        KnowledgeBaseError: Milvus does not answer, gives back other vectors than were written, or finds too little
            whatever the index.
    """
    online, config = batched_store(store), store.config
    start = time.monotonic()

    def search(queries: Floats, k: int) -> Rows:
        with collector_paused():
            found = [
                online.search_batch(config, view, part, k, with_embeddings=False, consistency_level="Strong")[0]
                for part in np.split(queries, range(_QUESTIONS_AT_ONCE, len(queries), _QUESTIONS_AT_ONCE))
            ]
        return _rows(np.concatenate(found), rows_of)

    online.build_index(config, view)
    index, replaced = index_of(store), 0
    probe = Probe(vectors, flat=index.kind == "FLAT")
    queries = probe.questions[:_COMPARED]
    ids, _, stored = online.search_batch(config, view, queries, min(10, probe.depth), consistency_level="Strong")
    written = vectors[_rows(ids, rows_of)[ids != ""]]
    if not np.array_equal(stored[ids != ""], written if mean is None else written - mean):
        online.drop(config, view)
        raise KnowledgeBaseError(
            f"{folder}: Milvus gives back other vectors than were written to {view.name}; nothing was switched, and "
            "its rows were dropped. Run ingest_passages again: it writes them all"
        )
    while not (found := probe.ask(search)).satisfies:
        told = f"{folder}: {index} finds {found.recall:.1%} of the passages that exact search finds"
        stronger = next_index(index)
        if stronger is None:
            raise KnowledgeBaseError(
                f"{told}; nothing was switched. Does something else write to the same collection? Run ingest_passages "
                "again, or train and evaluate with retrieval=exact"
            )
        say(f"{told} and {found.nearest:.1%} of the nearest {probe.depth}; trying {stronger}")
        write_index(folder, store, stronger)
        if (stronger.kind, stronger.build) != (index.kind, index.build):
            online.rebuild_index(config, view)
        index, replaced = stronger, replaced + 1
    seconds = time.monotonic() - start
    say(
        f"index: {index} finds {found.recall:.1%} of the passages that exact search finds, in "
        f"{found.milliseconds:.1f} ms per question; built and probed in {seconds:.1f} s"
    )
    return Built(index, found, seconds, replaced)


def _rows(ids: np.ndarray, rows_of: Callable[[Sequence[str]], Rows]) -> Rows:
    rows = np.full(ids.shape, PADDING_ROW, np.int64)
    rows[ids != ""] = rows_of(ids[ids != ""].tolist())
    return rows
