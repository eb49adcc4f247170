"""The probe of an index: made-up questions, and how much of what exact search finds for them the index finds too."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ragtune.knowledge.exact import ExactSearcher, Floats, Rows, Vectors
from ragtune.knowledge.retrieved import PADDING_ROW

DEPTHS = (1, 5, 20)
_QUESTIONS = 256  # of each kind, to a graph
_FLAT_QUESTIONS = 16  # to an index that compares all vectors
_NOISE = 0.7  # as long as this share of the passage's own distance from the mean
_LEAST_FOUND = 0.985  # by design above .97: what is measured on 256 questions is known to ± .01
_LEAST_NEAREST = 0.9


@dataclass(frozen=True)
class Found:
    """Recall of an index against exact search.

    Attributes:
        recall: of the passages that the questions ask for and exact search finds among the first 1, 5 and 20, the
            share that the index finds there; of the kind of question and the depth where that is lowest.
        nearest: of the nearest 20, whatever was asked for, the share that the index finds.
        milliseconds: per question, all asked at once.
    """

    recall: float
    nearest: float
    milliseconds: float

    @property
    def satisfies(self) -> bool:
        """Good enough to be served."""
        return self.recall >= _LEAST_FOUND and self.nearest >= _LEAST_NEAREST


class Probe:
    """Made-up questions on the passages of a version, with the answers of exact search.

    A question asks for one passage, but its vector is not the passage's own. Three kinds, as encoders of questions
    differ: the passage's vector with noise; the same without what all passages have in common, and with the difference
    of two other passages for noise; and with noise and something else that all questions have in common, as DPR's have.
    """

    def __init__(self, vectors: Vectors, flat: bool = False):
        """Make the questions, and ask exact search.

        Args:
            vectors: of the version's passages, (rows, d).
            flat: ask few, for an index that misses nothing by its nature.
        """
        self.vectors = vectors
        rows, dimension = vectors.shape
        rng = np.random.default_rng(0)
        count = _FLAT_QUESTIONS if flat else _QUESTIONS
        chosen = rng.permutation(rows)[: 3 * count]
        kinds = np.array_split(chosen, 3) if len(chosen) == 3 * count else [chosen[:count]] * 3
        some = vectors[np.sort(chosen)]
        mean = some.mean(axis=0)
        direction = _units(rng, 1, dimension)
        questions = []
        for number, asked in enumerate(kinds):
            own = vectors[asked] - mean
            length = _NOISE * np.linalg.norm(own, axis=1, keepdims=True)
            if number == 1:
                others = some[rng.integers(len(some), size=(2, len(asked)))]
                questions.append(own + length * _normalized(others[0] - others[1]))
            else:
                common = (mean, None, np.linalg.norm(mean) * direction)[number]
                questions.append(common + own + length * _units(rng, len(asked), dimension))
        self.asked = np.concatenate(kinds)
        self.questions: Floats = np.concatenate(questions).astype(np.float32)
        self._kind = np.repeat(np.arange(3), [len(asked) for asked in kinds])
        self.depth = min(max(DEPTHS), rows)
        self.exact, scores = ExactSearcher(vectors).search(self.questions, self.depth)
        self._scores = scores.astype(np.float64)

    def ask(self, search: Callable[[Floats, int], Rows]) -> Found:
        """Put all questions to an index.

        Args:
            search: from questions (B, d) and k to rows (B, k), best first, `PADDING_ROW` where fewer were found.
        """
        start = time.perf_counter()
        found = search(self.questions, self.depth)
        seconds = time.perf_counter() - start
        # By score beside the row: which of several equally good passages is found does not matter.
        embeddings = self.vectors[np.where(found == PADDING_ROW, 0, found).ravel()].reshape(*found.shape, -1)
        scores = np.einsum("bd,bkd->bk", self.questions, embeddings).astype(np.float64)
        scores[found == PADDING_ROW] = -np.inf
        tolerance = 1e-5 * np.abs(self._scores).max(axis=1) + 1e-6
        recalls = []
        for k in sorted({min(k, self.depth) for k in DEPTHS}):
            by_exact = (self.exact[:, :k] == self.asked[:, None]).any(axis=1)
            as_good = scores[:, k - 1] >= self._scores[:, k - 1] - tolerance
            by_index = (found[:, :k] == self.asked[:, None]).any(axis=1) | as_good
            for kind in range(3):
                of_kind = by_exact & (self._kind == kind)
                if of_kind.any():
                    recalls.append(by_index[of_kind].mean())
        nearest = (scores >= (self._scores[:, -1] - tolerance)[:, None]).mean()
        return Found(float(min(recalls, default=1.0)), float(nearest), 1000 * seconds / len(self.questions))


def _units(rng: np.random.Generator, count: int, dimension: int) -> Floats:
    return _normalized(rng.normal(size=(count, dimension)).astype(np.float32))


def _normalized(vectors: Floats) -> Floats:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
