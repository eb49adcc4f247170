"""Rows in Milvus: written through Feast, put under the index, and checked."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from ragtune.errors import KnowledgeBaseError
from ragtune.knowledge.embedding import EmbeddingCache, slices
from ragtune.knowledge.feast_names import FeatureStore, FeatureView
from ragtune.knowledge.feature_repo import apply_view, batched_store
from ragtune.knowledge.hashes import Rows as RowNumbers
from ragtune.knowledge.hashes import hex_digits
from ragtune.knowledge.indexing import Built, build_index
from ragtune.knowledge.online_store import BatchedMilvusOnlineStore
from ragtune.knowledge.passages import Passages
from ragtune.progress import progress

_BYTES_PER_CALL = 2**26  # of text


@dataclass(frozen=True)
class Rows:
    """The rows of one view in Milvus, and the passages that they shall be.

    Attributes:
        store: Feast's.
        view: of the version that is written.
        folder: of the version.
        passages: what the rows shall be.
        cache: holds the vectors of all of them.
        mean: taken off the vectors before they are written; None takes nothing off.
        timestamp: the rows' event timestamp, ISO 8601.
        chunk_rows: rows per call of Feast's `write_to_online_store`.
    """

    store: FeatureStore
    view: FeatureView
    folder: Path
    passages: Passages
    cache: EmbeddingCache
    mean: npt.NDArray[np.float32] | None
    timestamp: str
    chunk_rows: int

    def write_missing(self) -> int:
        """Write the rows that Milvus lacks, all where it holds others; how many.

        Milvus is asked, not remembered: whatever an earlier run got done before it was killed counts.
        """
        online = batched_store(self.store)
        apply_view(self.store, self.folder, self.view)
        there = self._written(online)
        if there is None:
            online.drop(self.store.config, self.view)
            apply_view(self.store, self.folder, self.view)
            there = np.zeros(len(self.passages), bool)
        missing = np.flatnonzero(~there)
        self._write(missing)
        return len(missing)

    def _written(self, online: BatchedMilvusOnlineStore) -> npt.NDArray[np.bool_] | None:
        """Tell of every passage whether Milvus holds it, (rows,) bool; None where it holds something else too."""
        there = np.zeros(len(self.passages), bool)
        for identifiers, hashes in online.content_hashes(self.store.config, self.view):
            rows = self.passages.rows_of(identifiers)
            if (rows < 0).any() or hex_digits(self.passages.content_hashes[rows]) != hashes:
                return None
            there[rows] = True
        return there

    def index(self, vectors: npt.NDArray[np.float32]) -> Built:
        """Put all rows under an index that finds what exact search finds.

        Args:
            vectors: of all passages, (rows, d).

        Raises:
            KnowledgeBaseError: there are more or fewer rows than passages, or as `build_index`.
        """
        online, config = batched_store(self.store), self.store.config
        found = online.count(config, self.view)
        if found != len(self.passages):
            raise KnowledgeBaseError(
                f"{self.folder}: Milvus holds {found:,} rows of {self.view.name} after {len(self.passages):,} were "
                "written; was something else writing to the same collection? Nothing was switched"
            )
        return build_index(self.store, self.view, self.folder, self.passages.rows_of, vectors, self.mean)

    def _chunks(self, rows: RowNumbers) -> Iterator[RowNumbers]:
        """Parts of `chunk_rows`, fewer where texts are long: a call's message may hold 256 MiB."""
        sizes = self.passages.text_sizes[rows]
        for part in slices(len(rows), self.chunk_rows):
            calls = np.cumsum(sizes[part]) // _BYTES_PER_CALL
            yield from np.split(rows[part], np.flatnonzero(np.diff(calls)) + 1)

    def _write(self, rows: RowNumbers) -> None:
        shown = progress(rows, "writing", unit="passages")
        for chunk in self._chunks(rows):
            hashes = self.passages.content_hashes[chunk]
            frame = self.passages.take(chunk).table.select(["id", "title", "text"]).to_pandas()
            frame["content_hash"] = hex_digits(hashes)
            vectors = self.cache.vectors(hashes)[:]
            frame["embedding"] = list(vectors if self.mean is None else vectors - self.mean)
            frame["event_timestamp"] = pd.Timestamp(self.timestamp)
            self.store.write_to_online_store(self.view.name, df=frame)
            for _ in chunk:
                next(shown)
        next(shown, None)
