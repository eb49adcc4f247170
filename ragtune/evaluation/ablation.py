"""An ablation: each part trained alone, both trained, and no training at all, on the same questions from one start."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from ragtune.evaluation.comparison import Comparison, compare
from ragtune.evaluation.movement import PARTS

SCORES = {"em": "exact match", "recall@1": "recall@1"}  # of every arm, and their names in prose
UNTRAINED, CLOSED_BOOK = "untrained", "closed-book"
RETRIEVER, GENERATOR, BOTH = "retriever", "generator", "both"  # what an arm trains
DECIDING = {RETRIEVER: "recall@1", GENERATOR: "em", BOTH: "em"}  # the score by which each is judged


@dataclass(frozen=True)
class Arm:
    """One way to train, in one or several runs that differ in their random seed.

    Attributes:
        scores: by name, of `SCORES`; (runs, questions), NaN for a question without such a score.
        moved: relative distance of each part from the start, mean over the runs; a part that is missing became another
            architecture, such as a generator with an adapter.
    """

    scores: Mapping[str, np.ndarray]
    moved: Mapping[str, float] = field(default_factory=dict)

    @property
    def trains(self) -> str:
        """The half that has moved: `RETRIEVER`, `GENERATOR` or `BOTH`; "" where nothing has."""
        learnt = {part for part in PARTS if self.moved.get(part, math.nan) != 0}
        if "generator" in learnt:
            return BOTH if len(learnt) > 1 else GENERATOR
        return RETRIEVER if learnt else ""

    def mean(self, score: str) -> float:
        """Mean over runs and questions."""
        return float(np.nanmean(self.scores[score]))

    def by_run(self, score: str) -> list[float]:
        """Mean over the questions, of each run."""
        return [float(value) for value in np.nanmean(self.scores[score], axis=1)]


@dataclass(frozen=True)
class Contrast:
    """One arm against another by one score; `comparison` is of `ours` − `theirs`."""

    ours: str
    theirs: str
    score: str
    comparison: Comparison


@dataclass(frozen=True)
class Ablation:
    """Arms on the same questions.

    Attributes:
        untrained: the start of all.
        trained: by name, in the order in which they are shown.
        closed_book: the generator trained without passages; None where there is none.
        groups: the group of each question, see `ragtune.questions.groups.groups_of`.
    """

    untrained: Arm
    trained: Mapping[str, Arm]
    closed_book: Arm | None
    groups: np.ndarray

    @property
    def arms(self) -> dict[str, Arm]:
        """All of them by name: the start first, the closed-book one last."""
        last = {} if self.closed_book is None else {CLOSED_BOOK: self.closed_book}
        return {UNTRAINED: self.untrained, **self.trained, **last}

    def of(self, trains: str) -> list[str]:
        """Names of the arms that train this, the best by `DECIDING` first."""
        names = [name for name, arm in self.trained.items() if arm.trains == trains]
        return sorted(names, key=lambda name: -self.trained[name].mean(DECIDING[trains]))

    def contrast(self, ours: str, theirs: str, score: str) -> Contrast | None:
        """Compare two arms, each question by its mean over the runs; None where one of them lacks the score."""
        one, other = (self.arms[name].scores.get(score) for name in (ours, theirs))
        if one is None or other is None:
            return None
        return Contrast(ours, theirs, score, compare(one.mean(axis=0), other.mean(axis=0), groups=self.groups))

    def contrasts(self) -> Iterator[Contrast]:
        """Each arm against the start and closed-book, and each that trains both parts against all that train any."""
        pairs = [(name, UNTRAINED) for name in self.trained]
        pairs += [(both, one) for both in self.of(BOTH) for part in (RETRIEVER, GENERATOR) for one in self.of(part)]
        pairs += combinations(self.of(BOTH), 2)
        pairs += [(name, CLOSED_BOOK) for name in self.trained if self.closed_book is not None]
        for ours, theirs in pairs:
            yield from filter(None, (self.contrast(ours, theirs, score) for score in SCORES))
