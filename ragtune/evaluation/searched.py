"""The knowledge base as an evaluation asks it: through its index with exact search beside it, or exactly."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ragtune.evaluation.scoring import RECALL_AT
from ragtune.knowledge.exact import Floats
from ragtune.knowledge.exact_base import ExactKnowledgeBase
from ragtune.knowledge.knowledge_base import KnowledgeBase
from ragtune.knowledge.opening import open_to_read
from ragtune.knowledge.pointers import Pointer
from ragtune.knowledge.retrieved import Retrieved


class Searched:
    """A knowledge base, and how much of what exact search finds its answers have held so far.

    Attributes:
        passages, manifest: the knowledge base's.
    """

    def __init__(self, base: KnowledgeBase | ExactKnowledgeBase):
        """Wrap an open one."""
        self._base = base
        self._exact = None if isinstance(base, ExactKnowledgeBase) else ExactKnowledgeBase(base.folder, base.manifest)
        self._found: Counter[int] = Counter()
        self._there: Counter[int] = Counter()
        self.passages, self.manifest = base.passages, base.manifest

    def search(self, queries: Floats, k: int) -> Retrieved:
        """As the knowledge base's; exact search answers too, and what both find is counted."""
        found = self._base.search(queries, k)
        if self._exact is not None and len(queries):
            exact = self._exact.search(queries, k)
            for depth in (depth for depth in RECALL_AT if depth <= k):
                # By score: which of several equally good passages is found does not matter.
                there = exact.mask[:, :depth]
                worst = exact.scores[:, :depth].min(axis=1, initial=float("inf"), where=there)[:, None]
                self._found[depth] += int((found.mask & (found.scores >= worst))[:, :depth].sum())
                self._there[depth] += int(there.sum())
        return found

    def close(self) -> None:
        """Let go of exact search; the knowledge base stays open."""
        if self._exact is not None:
            self._exact.close()

    def index_recall(self) -> dict[str, float]:
        """`index_recall@1`, @5, @20: of the first k passages of exact search, the share that the index found.

        Empty where there is no index, or nothing was asked.
        """
        return {f"index_recall@{k}": self._found[k] / there for k, there in self._there.items() if there}


@contextmanager
def searched(place: str | Path | Pointer, encoder_fingerprint: str, retrieval: str = "direct") -> Iterator[Searched]:
    """Open a knowledge base for an evaluation.

    Args:
        place, encoder_fingerprint: as for `KnowledgeBase.open`.
        retrieval: as in training; "exact" searches without the index, all others search with it, unless another
            process has it open.

    Raises:
        KnowledgeBaseError: it cannot be opened.
    """
    opened = ExactKnowledgeBase.open if retrieval == "exact" else open_to_read
    with opened(place, encoder_fingerprint=encoder_fingerprint) as base, closing(Searched(base)) as both:
        yield both
