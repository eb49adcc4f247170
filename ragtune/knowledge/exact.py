"""Exact search: the inner products of queries with all vectors, block by block, and the best k of them."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ragtune.errors import KnowledgeBaseError
from ragtune.knowledge.retrieved import PADDING_ROW, Retrieved

_ROWS_PER_BLOCK = 32_768
_SCORES_PER_BLOCK = 2**24  # 64 MB
_SHARE_OF_FREE_MEMORY = 0.25  # of a GPU that holds its part of the vectors; training needs the rest

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


class Vectors(Protocol):
    """Vectors by row, (rows, d) float32: an array, a memory map, or what gathers them from several files."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, d)."""

    def __getitem__(self, rows: slice | Rows, /) -> Floats:
        """Some of them."""


class ExactSearcher:
    """Finds the best k vectors for each query by inner product, and misses none.

    The rows are split evenly over the devices, which search at the same time. A GPU keeps its part if that takes no
    more than a quarter of its free memory; otherwise blocks are copied to it for every search.
    """

    def __init__(self, vectors: Vectors, devices: Sequence[str] = ()):
        """Split the vectors over devices.

        Args:
            vectors: (rows, d), read block by block, so that a memory map stays on disk.
            devices: such as `cuda:0` or `cpu`; empty takes every GPU there is, else the CPU.
        """
        self.vectors = vectors
        devices = list(devices) or [f"cuda:{i}" for i in range(torch.cuda.device_count())] or ["cpu"]
        bounds = np.linspace(0, vectors.shape[0], len(devices) + 1).astype(int).tolist()
        self._shards = [
            _Shard(vectors, start, stop, device)
            for device, start, stop in zip(devices, bounds[:-1], bounds[1:], strict=True)
        ]

    def search(self, queries: Floats, k: int) -> tuple[Rows, Floats]:
        """The best k rows for each of B queries.

        Args:
            queries: (B, d), finite; B may be 0.
            k: rows per query; more than there are gives padding.

        Returns:
            rows (B, k), best first, the lower row first where scores are equal; scores (B, k). Padding is -1 and -inf.

        Raises:
            KnowledgeBaseError: the queries have another dimension or are not finite, or k is below 1.
        """
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        check_queries(queries, self.vectors.shape[1], k)
        if len(self._shards) == 1:
            best = self._shards[0].search(queries, k)
        else:
            with ThreadPoolExecutor(len(self._shards)) as pool:
                found = list(pool.map(lambda shard: shard.search(queries, k), self._shards))
            best = _best([scores for scores, _ in found], [rows for _, rows in found], k)
        scores, rows = best
        padding = k - rows.shape[1]
        return (
            np.pad(rows.numpy(), ((0, 0), (0, padding)), constant_values=PADDING_ROW),
            np.pad(scores.numpy(), ((0, 0), (0, padding)), constant_values=-np.inf),
        )


def check_queries(queries: Floats, dimension: int, k: int) -> None:
    """Refuse what cannot be searched.

    Raises:
        KnowledgeBaseError: the queries are not (B, dimension) or not finite, or k is below 1.
    """
    if queries.ndim != 2 or queries.shape[1] != dimension:
        raise KnowledgeBaseError(
            f"the vectors have {dimension} dimensions, the queries have shape {queries.shape}; was another encoder "
            "used?"
        )
    if k < 1:
        raise KnowledgeBaseError(f"k = {k}: must be at least 1")
    if not np.isfinite(queries).all():
        raise KnowledgeBaseError("the queries hold NaN or infinity; is the question encoder's checkpoint whole?")


def ranked(queries: Floats, rows: Rows, vectors: Vectors) -> Retrieved:
    """Candidates with their true inner products, best first, the lower row first where those are equal.

    Args:
        queries: (B, d).
        rows: (B, k), in any order; `PADDING_ROW` goes to the end.
        vectors: (rows, d).
    """
    found = rows != PADDING_ROW
    embeddings = vectors[np.where(found, rows, 0).ravel()].reshape(*rows.shape, queries.shape[1])
    scores = np.einsum("bd,bkd->bk", queries, embeddings)
    scores[~found] = -np.inf
    embeddings[~found] = 0
    order = np.lexsort((rows, -scores))
    # A finite score is never beaten by padding's, whose row number is the lowest.
    return Retrieved(
        rows=np.take_along_axis(rows, order, 1),
        scores=np.take_along_axis(scores, order, 1),
        embeddings=np.take_along_axis(embeddings, order[:, :, None], 1),
    )


class _Shard:
    """Rows from `start` to `stop`, searched on one device."""

    def __init__(self, vectors: Vectors, start: int, stop: int, device: str):
        self.vectors, self.start, self.stop = vectors, start, stop
        self.device = torch.device(device)
        self.resident: Tensor | None = None
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            if (stop - start) * vectors.shape[1] * 4 <= _SHARE_OF_FREE_MEMORY * free:
                self.resident = torch.empty((stop - start, vectors.shape[1]), device=self.device)
                for first in range(start, stop, _ROWS_PER_BLOCK):
                    block = np.array(vectors[first : min(first + _ROWS_PER_BLOCK, stop)])
                    self.resident[first - start : first - start + len(block)] = torch.from_numpy(block)

    def search(self, queries: Floats, k: int) -> tuple[Tensor, Tensor]:
        """Scores and rows, (B, min(k, rows)), ordered as `ExactSearcher.search` says, in main memory."""
        best_scores = torch.empty((len(queries), 0))
        best_rows = torch.empty((len(queries), 0), dtype=torch.int64)
        size = max(1, _SCORES_PER_BLOCK // _ROWS_PER_BLOCK)
        for first in range(self.start, self.stop, _ROWS_PER_BLOCK):
            block = self._block(first)
            parts = [_top(self._scores(queries[b : b + size], block), k) for b in range(0, len(queries), size)]
            if parts:
                scores = torch.cat([scores.cpu() for scores, _ in parts])
                rows = torch.cat([rows.cpu() for _, rows in parts]) + first
                best_scores, best_rows = _best([best_scores, scores], [best_rows, rows], k)
        return best_scores, best_rows

    def _block(self, first: int) -> Floats | Tensor:
        last = min(first + _ROWS_PER_BLOCK, self.stop)
        if self.resident is not None:
            return self.resident[first - self.start : last - self.start]
        block = self.vectors[first:last]
        return block if self.device.type == "cpu" else torch.from_numpy(np.array(block)).to(self.device)

    def _scores(self, queries: Floats, block: Floats | Tensor) -> Tensor:
        if isinstance(block, np.ndarray):
            return torch.from_numpy(queries @ block.T)
        with _full_precision(), torch.autocast(self.device.type, enabled=False):
            return torch.from_numpy(queries).to(self.device) @ block.T


def _top(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The best k of each row and their columns, the lower column first where scores are equal."""
    k = min(k, scores.shape[1])
    # One more than asked for tells whether the last one is as good as one that was left out.
    values, columns = scores.topk(min(k + 1, scores.shape[1]), dim=1)
    if values.shape[1] > k:
        tied = torch.nonzero(values[:, k] == values[:, k - 1]).ravel()
        values, columns = values[:, :k], columns[:, :k]
        if len(tied):
            of_tied = scores[tied].sort(dim=1, descending=True, stable=True)
            values[tied], columns[tied] = of_tied.values[:, :k], of_tied.indices[:, :k]
    columns, order = columns.sort(dim=1)
    values, order = values.gather(1, order).sort(dim=1, descending=True, stable=True)
    return values, columns.gather(1, order)


def _best(scores: Sequence[Tensor], rows: Sequence[Tensor], k: int) -> tuple[Tensor, Tensor]:
    """The best k of several parts, each in order, those of lower rows first."""
    values, order = torch.cat(list(scores), dim=1).sort(dim=1, descending=True, stable=True)
    return values[:, :k], torch.cat(list(rows), dim=1).gather(1, order[:, :k])


@contextmanager
def _full_precision() -> Iterator[None]:
    """float32 as it is, where training has allowed the GPU's TensorFloat-32, which keeps 10 bits."""
    before = torch.get_float32_matmul_precision()
    if before != "highest":
        torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        if before != "highest":
            torch.set_float32_matmul_precision(before)
