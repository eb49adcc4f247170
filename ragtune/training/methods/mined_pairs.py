"""Positives and hard negatives of a run's questions, and each step's draw among them."""

from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path

import numpy as np

from ragtune.knowledge.retrieved import PADDING_ROW
from ragtune.training.methods.hard_negatives import Rows


def key_of(question: str, gold_ids: Iterable[str]) -> Hashable:
    """The key that tells questions of a run apart: a title may be a validation question too, about another passage."""
    return (question, *gold_ids)


class MinedPairs:
    """By question, its positive passages and its hard negatives; the latter change whenever they are mined.

    Attributes:
        positives: n lists of rows; an empty one where no passage is known to be right.
        negatives: (n, hardest) rows, the hardest first; `PADDING_ROW` where there are fewer.
        base_step: step of the snapshot whose vectors the negatives were mined from.
    """

    def __init__(self, questions: Sequence[Hashable], trained: int, hardest: int, seed: int):
        """Set up; nothing is known of any question.

        Args:
            questions: n of them, by their keys; the first `trained` are trained on, the others validate.
            trained: see above.
            hardest: negatives kept for a question.
            seed: random seed of the draws.
        """
        self._numbers: dict[Hashable, int] = {}
        for number, question in enumerate(questions):
            self._numbers.setdefault(question, number)
        self.trained, self.hardest, self.seed = trained, hardest, seed
        self.positives: list[list[int]] = [[] for _ in questions]
        self.negatives: Rows = np.full((len(questions), hardest), PADDING_ROW, np.int64)
        self.base_step = 0
        self._seen = np.empty((0, 2), np.int64)

    @property
    def size(self) -> int:
        """Pairs that were trained on so far: question and positive, question and negative."""
        return sum(map(len, self.positives[: self.trained])) + len(self._seen)

    def numbers(self, questions: Iterable[Hashable]) -> list[int]:
        """The numbers of questions."""
        return [self._numbers[question] for question in questions]

    def replace(self, number: int, negatives: Sequence[int]) -> None:
        """Take other negatives for a question, the hardest first."""
        kept = negatives[: self.hardest]
        self.negatives[number] = [*kept, *[PADDING_ROW] * (self.hardest - len(kept))]

    def count_new(self) -> int:
        """Count the pairs of a question that is trained on and a negative that were never there before."""
        of_trained = self.negatives[: self.trained]
        numbers, places = np.nonzero(of_trained != PADDING_ROW)
        seen = np.unique(np.concatenate([self._seen, np.stack([numbers, of_trained[numbers, places]], axis=1)]), axis=0)
        new = len(seen) - len(self._seen)
        self._seen = seen
        return new

    def draw(self, numbers: Sequence[int], count: int, step: int) -> Rows:
        """A positive and up to `count` negatives of some questions, (B, 1 + count) rows with `PADDING_ROW` at the end.

        Those to train on are drawn by seed, step and question, the same in whatever process; a question that validates
        keeps its first positive and its hardest negatives.
        """
        drawn = np.full((len(numbers), 1 + count), PADDING_ROW, np.int64)
        for place, number in enumerate(numbers):
            positives, negatives = self.positives[number], self.negatives[number]
            negatives = negatives[negatives != PADDING_ROW]
            chosen = 0
            if number < self.trained:
                generator = np.random.default_rng([self.seed, step, number])
                negatives = generator.permutation(negatives)
                chosen = int(generator.integers(max(1, len(positives))))
            if positives:
                drawn[place, 0] = positives[chosen]
                drawn[place, 1 : 1 + len(negatives[:count])] = negatives[:count]
        return drawn

    def save(self, path: Path) -> None:
        """Write what was mined."""
        np.savez(path, negatives=self.negatives, seen=self._seen, base_step=self.base_step)

    def load(self, path: Path) -> None:
        """Read back what `save` wrote of the same questions."""
        with np.load(path, allow_pickle=False) as state:
            self.negatives, self._seen = state["negatives"], state["seen"]
            self.base_step = int(state["base_step"])
