"""The search of a training step in the first process, for all of them."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from ragtune.knowledge.retrieved import Retrieved
from ragtune.training.retrieval.search import Queries, Search


class Gather:
    """The first process owns the knowledge base; the others send it their queries and get their passages back.

    One embedded Milvus file can have only one owner, so this is how several processes train on a laptop. All
    processes must call `search` equally often; the number of queries may differ between them, and may be 0.
    """

    def __init__(self, knowledge_base: Search | None, dimension: int):
        """Wrap the knowledge base in process 0; the others pass None.

        Args:
            knowledge_base: what process 0 asks.
            dimension: d, of a query and of a stored passage.
        """
        self.knowledge_base = knowledge_base
        self.dimension = dimension
        self.group = dist.new_group(backend="gloo")  # queries and passages are in main memory, whatever trains

    def search(self, queries: Queries, k: int) -> Retrieved:
        """As `KnowledgeBase.search`, over all processes at once."""
        counts = self._counts(len(queries))
        longest = max(counts)
        if not longest:
            return _empty(0, k, self.dimension)
        everyone = self._gather(_fill(torch.from_numpy(queries), longest))
        rows = scores = embeddings = None
        if everyone is not None and self.knowledge_base is not None:
            asked = torch.cat([part[:count] for part, count in zip(everyone, counts, strict=True)])
            found = self.knowledge_base.search(asked.numpy(), k)
            rows, scores, embeddings = found.rows, found.scores, found.embeddings
        own = len(queries)
        return Retrieved(
            rows=self._scatter(rows, counts, (longest, k), torch.int64)[:own],
            scores=self._scatter(scores, counts, (longest, k), torch.float32)[:own],
            embeddings=self._scatter(embeddings, counts, (longest, k, self.dimension), torch.float32)[:own],
        )

    def close(self) -> None:
        """Let go of the group; every process must call it."""
        dist.destroy_process_group(self.group)

    def _counts(self, own: int) -> list[int]:
        counts = [torch.zeros(1, dtype=torch.int64) for _ in range(dist.get_world_size())]
        dist.all_gather(counts, torch.tensor([own]), group=self.group)
        return [int(count) for count in counts]

    def _gather(self, own: Tensor) -> list[Tensor] | None:
        first = dist.get_rank() == 0
        parts = [torch.empty_like(own) for _ in range(dist.get_world_size())] if first else None
        dist.gather(own.contiguous(), parts, dst=0, group=self.group)
        return parts

    def _scatter(
        self, everyone: npt.NDArray[Any] | None, counts: list[int], shape: tuple[int, ...], dtype: torch.dtype
    ) -> npt.NDArray[Any]:
        own = torch.empty(shape, dtype=dtype)
        parts = None
        if everyone is not None:
            parts = [_fill(part, shape[0]) for part in torch.from_numpy(everyone).to(dtype).split(counts)]
        dist.scatter(own, parts, src=0, group=self.group)
        return own.numpy()


def _fill(part: Tensor, length: int) -> Tensor:
    """`part` with rows of zeros up to `length`: gather and scatter want equal shapes."""
    return torch.cat([part, part.new_zeros(length - len(part), *part.shape[1:])]).contiguous()


def _empty(queries: int, k: int, dimension: int) -> Retrieved:
    return Retrieved(
        rows=np.empty((queries, k), np.int64),
        scores=np.empty((queries, k), np.float32),
        embeddings=np.empty((queries, k, dimension), np.float32),
    )
