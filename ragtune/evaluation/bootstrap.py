"""Whether a difference between two models on the same questions is more than chance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ragtune.errors import EvaluationError

RESAMPLES = 10_000
CONFIDENCE = 0.95
_CELLS_AT_ONCE = 4_000_000  # of 8 bytes: bounds the memory of one draw to 32 MB


@dataclass(frozen=True)
class Interval:
    """A mean difference and its bootstrap interval, in the unit of the scores."""

    difference: float
    low: float
    high: float


def paired_bootstrap(
    before: Sequence[float] | np.ndarray,
    after: Sequence[float] | np.ndarray,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """The mean of after − before and its percentile interval over resampled questions.

    Questions are drawn with replacement, each with both of its scores. Only how often each distinct difference is
    drawn matters to the mean, and those counts are multinomial, so the counts are drawn instead of the questions: the
    same distribution, at a cost that does not grow with the number of questions where scores repeat (EM has three
    distinct differences).

    Args:
        before, after: one score per question, in the same order, (n,).

    Raises:
        EvaluationError: no questions, or not the same number on both sides.

    Source: Efron and Tibshirani 1993, chapter 13; paired as in Koehn 2004.
    """
    before, after = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if before.shape != after.shape or before.ndim != 1 or before.size == 0:
        raise EvaluationError(
            f"a paired interval needs the same questions on both sides and at least one; "
            f"got {before.size:,} before and {after.size:,} after"
        )
    values, counts = np.unique(after - before, return_counts=True)
    questions = before.size
    generator = np.random.default_rng(seed)
    at_once = max(1, _CELLS_AT_ONCE // len(values))
    means = np.concatenate(
        [
            generator.multinomial(questions, counts / questions, size=min(at_once, resamples - done)) @ values
            for done in range(0, resamples, at_once)
        ]
    )
    tail = (1 - confidence) / 2
    low, high = np.quantile(means / questions, [tail, 1 - tail])
    return Interval(float(np.mean(after - before)), float(low), float(high))
