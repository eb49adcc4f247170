"""The results of a search, and the interface of an encoder of passages."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ragtune.knowledge.passages import Passage, Passages

PADDING_ROW = -1


@dataclass(frozen=True)
class Retrieved:
    """The best k passages for each of B queries, best first.

    Attributes:
        rows: (B, k) int64, the row in `Passages`; `PADDING_ROW` where fewer than k were found.
        scores: (B, k) float32, inner product of query and document vector; -inf for padding.
        embeddings: (B, k, d) float32, the document vectors as the knowledge base holds them; 0 for padding.
    """

    rows: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    embeddings: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.rows.ndim != 2 or self.scores.shape != self.rows.shape or self.embeddings.shape[:2] != self.rows.shape:
            raise ValueError(
                f"rows {self.rows.shape}, scores {self.scores.shape} and embeddings {self.embeddings.shape} do not"
                " fit: they must be (B, k), (B, k) and (B, k, d)"
            )

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """(B, k): True where there is a passage, False where there is padding."""
        return self.rows != PADDING_ROW

    def __len__(self) -> int:
        """B, the number of queries."""
        return len(self.rows)


class Searchable(Protocol):
    """Whatever finds passages by vectors: `KnowledgeBase`, `ExactKnowledgeBase`, or what wraps one."""

    @property
    def passages(self) -> Passages:
        """By row, as `search` names them."""

    def search(self, queries: npt.NDArray[np.float32], k: int) -> Retrieved:
        """The best k passages for each of the (B, d) queries."""


class PassageEncoder(Protocol):
    """Whatever turns passages into vectors; `ragtune.models.encoders.Encoder` is one."""

    name: str

    @property
    def fingerprint(self) -> str:
        """Equal for equal weights, tokenizer and pooling."""

    @property
    def dimension(self) -> int:
        """The length d of a vector."""

    @property
    def precision(self) -> str:
        """The one that it computes passages' vectors in; those of another are near, but not equal."""

    def encode_passages(self, passages: Sequence[Passage]) -> npt.NDArray[np.float32]:
        """The passages' vectors, (len(passages), d) float32, row by row."""


@runtime_checkable
class RemoteEncoder(Protocol):
    """A `PassageEncoder` whose processes read the passages themselves, such as on other machines."""

    def encode_rows(
        self, path: Path, passages: Passages, rows: npt.NDArray[np.int64]
    ) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
        """Yield some rows and their vectors until all are done, in any order, each row once.

        Args:
            path: of the file of passages, on a volume that those processes see, too.
            passages: that it holds.
            rows: to embed; texts of about one length lie together.
        """
