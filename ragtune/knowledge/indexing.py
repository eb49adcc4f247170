"""The index over the rows of a version: built, probed, and replaced by a stronger one where it finds too little."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from feast import FeatureStore, FeatureView

from ragtune.errors import KnowledgeBaseError
from ragtune.files import atomic_path
from ragtune.knowledge.exact import Floats, Rows, Vectors
from ragtune.knowledge.feature_repo import batched_store, index_of, write_index
from ragtune.knowledge.index import Index, next_index
from ragtune.knowledge.probe import Found, Probe
from ragtune.knowledge.retrieved import PADDING_ROW
from ragtune.progress import say

_MEAN = "mean.npy"
_ROWS_AT_ONCE = 32_768
_QUESTIONS_AT_ONCE = 128
_COMPARED = 64  # questions whose passages' stored vectors are compared with what was written


@dataclass(frozen=True)
class Built:
    """An index that finds enough.

    Attributes:
        index: which.
        found: what the probe says of it.
        seconds: that building and probing took, earlier tries included.
    """

    index: Index
    found: Found
    seconds: float


def make_mean(folder: Path, index: Index, vectors: Vectors) -> Floats | None:
    """The mean that is taken off a version's vectors before they go into Milvus; None where nothing is.

    A graph over inner products misses passages where all vectors have much in common, as DPR's do. q·(v − mean) differs
    from q·v by the same amount for every passage of a question, so that the ranking stays.

    Args:
        folder: of the version, where the mean is kept.
        index: that the version begins with.
        vectors: true ones, of all its passages.

    Raises:
        StorageError: it cannot be written.
    """
    path = folder / _MEAN
    if not path.exists() and index.kind == "FLAT":
        return None
    total, rows = np.zeros(vectors.shape[1]), vectors.shape[0]
    for start in range(0, rows, _ROWS_AT_ONCE):
        total += vectors[start : min(start + _ROWS_AT_ONCE, rows)].sum(axis=0, dtype=np.float64)
    mean = (total / rows).astype(np.float32)
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        np.save(stream, mean)
    return mean


def read_mean(folder: Path) -> Floats | None:
    """What `make_mean` left in a version's folder.

    Raises:
        KnowledgeBaseError: it is broken.
    """
    path = folder / _MEAN
    try:
        return np.load(path) if path.exists() else None
    except (OSError, ValueError, EOFError) as error:
        raise KnowledgeBaseError(f"{path}: cannot be read ({error}); run ingest_passages again") from error


def build_index(
    store: FeatureStore,
    view: FeatureView,
    folder: Path,
    rows_of: Callable[[Sequence[str]], Rows],
    vectors: Vectors,
    mean: Floats | None,
) -> Built:
    """Put all rows under the index, and a stronger one until it finds what exact search finds.

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
        found = [
            online.search_batch(config, view, part, k, with_embeddings=False, consistency_level="Strong")[0]
            for part in np.split(queries, range(_QUESTIONS_AT_ONCE, len(queries), _QUESTIONS_AT_ONCE))
        ]
        return _rows(np.concatenate(found), rows_of)

    online.build_index(config, view)
    probe = Probe(vectors)
    queries = probe.questions[:_COMPARED]
    ids, _, stored = online.search_batch(config, view, queries, min(10, probe.depth), consistency_level="Strong")
    written = vectors[_rows(ids, rows_of)[ids != ""]]
    if not np.array_equal(stored[ids != ""], written if mean is None else written - mean):
        raise KnowledgeBaseError(
            f"{folder}: Milvus gives back other vectors than were written to {view.name}; nothing was switched. Run "
            "ingest_passages again"
        )
    index = index_of(store)
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
        index = stronger
    seconds = time.monotonic() - start
    say(
        f"index: {index} finds {found.recall:.1%} of the passages that exact search finds, in "
        f"{found.milliseconds:.1f} ms per question; built and probed in {seconds:.1f} s"
    )
    return Built(index, found, seconds)


def _rows(ids: np.ndarray, rows_of: Callable[[Sequence[str]], Rows]) -> Rows:
    rows = np.full(ids.shape, PADDING_ROW, np.int64)
    rows[ids != ""] = rows_of(ids[ids != ""].tolist())
    return rows
