"""Tests of a difference between two models on the same questions against chance."""

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
    groups: Sequence[int] | np.ndarray | None = None,
) -> Interval:
    """The mean of after − before and its percentile interval over resampled groups of questions.

    Groups are drawn with replacement, each with all its questions, each question with both of its scores: questions
    about one paragraph are right or wrong together, and drawn one by one they would look like more evidence than they
    are. Only how often each distinct group (its summed difference and its size) is drawn matters to the mean, and those
    counts are multinomial, so the counts are drawn instead of the groups: the same distribution, at a cost that does
    not grow with the number of groups where they repeat (EM of single questions has three distinct differences).

    Args:
        before, after: one score per question, in the same order, (n,).
        groups: the group of each question, (n,); None: each question is one.

    Raises:
        EvaluationError: no questions, or not the same number on both sides.

    Source: Efron and Tibshirani 1993, chapter 13; paired as in Koehn 2004; by groups as in Field and Welsh 2007.
    """
    before, after = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if before.shape != after.shape or before.ndim != 1 or before.size == 0:
        raise EvaluationError(
            f"a paired interval needs the same questions on both sides and at least one; "
            f"got {before.size:,} before and {after.size:,} after"
        )
    sums, sizes = group_sums(after - before, groups)
    kinds, counts = np.unique(np.stack([sums, sizes]), axis=1, return_counts=True)
    generator = np.random.default_rng(seed)
    at_once = max(1, _CELLS_AT_ONCE // len(counts))
    draws = (
        generator.multinomial(len(sums), counts / len(sums), size=min(at_once, resamples - done))
        for done in range(0, resamples, at_once)
    )
    means = np.concatenate([(drawn @ kinds[0]) / (drawn @ kinds[1]) for drawn in draws])
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(np.mean(after - before)), float(low), float(high))


def group_sums(values: np.ndarray, groups: Sequence[int] | np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The sum of each group's values, and how many they are, (groups,) each; None: each value is a group."""
    if groups is None:
        return values, np.ones(len(values))
    _, numbers, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    return np.bincount(numbers, weights=values), sizes.astype(np.float64)
