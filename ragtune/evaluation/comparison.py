"""Two models on the same questions: when one counts as better, and how small a difference that can tell."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from ragtune.evaluation.bootstrap import CONFIDENCE, Interval, paired_bootstrap

POWER = 0.8  # of a test that is worth making, by convention
_PRECISION = 1e-6  # of the smallest difference that is searched for


@dataclass(frozen=True)
class Comparison:
    """One model's scores against another's, question by question.

    Attributes:
        questions: n, that both have a score for.
        wins, losses: questions on which the one is better, and worse.
        interval: the mean difference, one − other, and its bootstrap interval.
        p_value: `sign_test` of wins and losses.
    """

    questions: int
    wins: int
    losses: int
    interval: Interval
    p_value: float

    @property
    def better(self) -> bool:
        """More than chance by both tests: the interval is above zero, and so many wins are unlikely at even odds.

        The bootstrap alone trusts few questions too much: after 3 wins and no loss on 5 questions, 99 % of its
        resamples have a win in them. The exact test alone says nothing of how large the difference is.
        """
        return self.interval.low > 0 and self.p_value <= 1 - CONFIDENCE

    @property
    def detectable(self) -> float | None:
        """`detectable_difference`, should two models differ on as many questions as these do."""
        return detectable_difference(self.questions, (self.wins + self.losses) / self.questions)

    def power(self, difference: float) -> float:
        """`power` at a true difference, should two models differ on as many questions as these do."""
        return power(difference, self.questions, (self.wins + self.losses) / self.questions)


def compare(ours: Sequence[float] | np.ndarray, theirs: Sequence[float] | np.ndarray, seed: int = 0) -> Comparison:
    """Compare two models by any score a question; EM and recall@k, which are 0 or 1, are what the tests are made for.

    Args:
        ours, theirs: one score per question, in the same order, (n,); a question with NaN on either side is left out.
        seed: of the bootstrap.

    Raises:
        EvaluationError: no question has both scores, or the two are not of the same questions.
    """
    one, other = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if one.shape == other.shape:
        known = ~(np.isnan(one) | np.isnan(other))
        one, other = one[known], other[known]
    interval = paired_bootstrap(other, one, seed=seed)
    wins, losses = int(np.sum(one > other)), int(np.sum(one < other))
    return Comparison(len(one), wins, losses, interval, sign_test(wins, losses))


def sign_test(wins: int, losses: int) -> float:
    """Probability of a split at least as uneven if either side were equally likely to win; two-sided, exact.

    For scores of 0 and 1 this is McNemar's exact test: questions that both answer right, or both wrong, say nothing.

    Example: 3 wins and no loss give 2 · (1/2)³ = 0.25; 6 and none 0.031.

    Source: McNemar 1947; Dror et al. 2018, section 3.2.
    """
    return min(1.0, 2 * float(binom.cdf(min(wins, losses), wins + losses, 0.5)))


def power(difference: float, questions: int, discordance: float) -> float:
    """Probability that a model is found better (`Comparison.better`) when it truly is, by `difference`.

    Each question is won, lost or tied, with probabilities that differ by `difference` and add up to `discordance`.
    What counts is the exact test: with scores of 0 and 1 it is the stricter of the two.

    Args:
        difference: of the mean score, in [0, 1].
        questions: n.
        discordance: share of the questions on which two such models differ; at least `difference`.
    """
    if questions == 0 or difference <= 0:
        return 0.0
    discordance = min(max(discordance, difference), 1.0)
    differing = np.arange(questions + 1)
    needed = binom.isf((1 - CONFIDENCE) / 2, differing, 0.5) + 1  # wins, of so many that are won or lost
    won = binom.sf(needed - 1, differing, (1 + difference / discordance) / 2)
    return float(np.sum(binom.pmf(differing, questions, discordance) * won))


def detectable_difference(questions: int, discordance: float, wanted: float = POWER) -> float | None:
    """The smallest true difference that is found with probability `wanted`; None where the questions are too few.

    Args:
        questions: n.
        discordance: as in `power`.
        wanted: the power.

    Example: 300 questions, 20 % of which two models answer differently: 0.074.
    """
    low, high = 0.0, 1.0
    if power(high, questions, discordance) < wanted:
        return None
    while high - low > _PRECISION:
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle, questions, discordance) >= wanted else (middle, high)
    return high
