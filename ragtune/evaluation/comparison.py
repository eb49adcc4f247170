"""Two models on the same questions: when one counts as better, and how small a difference that can tell."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from ragtune.errors import EvaluationError
from ragtune.evaluation.bootstrap import CONFIDENCE, Interval, group_sums, paired_bootstrap

POWER = 0.8  # of a test that is worth making, by convention
_PRECISION = 1e-6  # of the smallest difference that is searched for
_FLIPS = 100_000  # random ones, where the sums are not whole and cannot be counted out
_FLIPS_AT_ONCE = 4_000_000  # of 8 bytes


@dataclass(frozen=True)
class Comparison:
    """One model's scores against another's, question by question.

    Attributes:
        questions: n, that both have a score for.
        groups: how many groups of questions about one thing they are, each evidence by itself; n where all are apart.
        wins, losses: questions on which the one is better, and worse.
        interval: the mean difference, one − other, and its bootstrap interval.
        p_value: `permutation_test` of the groups.
        design_effect: see `design_effect`.
    """

    questions: int
    groups: int
    wins: int
    losses: int
    interval: Interval
    p_value: float
    design_effect: float

    @property
    def better(self) -> bool:
        """More than chance by both tests: the interval is above zero, and such a sum is unlikely at even odds.

        The bootstrap alone trusts few questions too much: after 3 wins and no loss on 5 questions, 99 % of its
        resamples have a win in them. The exact test alone says nothing of how large the difference is.
        """
        return self.interval.low > 0 and self.p_value <= 1 - CONFIDENCE

    @property
    def worse(self) -> bool:
        """As `better`, the other way round."""
        return self.interval.high < 0 and self.p_value <= 1 - CONFIDENCE

    @property
    def p_shown(self) -> str:
        """The p-value behind its sign, such as "= 0.036"; "< 0.001" where it is smaller than its digits."""
        return f"= {self.p_value:.3f}" if self.p_value >= 0.001 else "< 0.001"

    @property
    def detectable(self) -> float | None:
        """`detectable_difference`, should two models differ on as many questions as these do."""
        return detectable_difference(self._independent, (self.wins + self.losses) / self.questions)

    def power(self, difference: float) -> float:
        """`power` at a true difference, should two models differ on as many questions as these do."""
        return power(difference, self._independent, (self.wins + self.losses) / self.questions)

    @property
    def _independent(self) -> int:
        """As many questions that are all apart would tell as much."""
        return max(1, round(self.questions / self.design_effect))


def compare(
    ours: Sequence[float] | np.ndarray,
    theirs: Sequence[float] | np.ndarray,
    seed: int = 0,
    groups: Sequence[int] | np.ndarray | None = None,
) -> Comparison:
    """Compare two models by any score per question; EM and recall@k, which are 0 or 1, are what the tests are made for.

    Args:
        ours, theirs: one score per question, in the same order, (n,); a question with NaN on either side is left out.
        seed: random seed of the bootstrap.
        groups: the group of each question, (n,), see `ragtune.questions.groups.groups_of`; None: each is its own.

    Raises:
        EvaluationError: no question has both scores, or the two are not of the same questions.
    """
    one, other = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if groups is not None and len(groups) != len(one):
        raise EvaluationError(f"{len(groups):,} groups for {len(one):,} questions: each question needs one")
    if one.shape == other.shape:
        known = ~(np.isnan(one) | np.isnan(other))
        one, other = one[known], other[known]
        groups = None if groups is None else np.asarray(groups)[known]
    interval = paired_bootstrap(other, one, seed=seed, groups=groups)
    sums, sizes = group_sums(one - other, groups)
    return Comparison(
        questions=len(one),
        groups=len(sums),
        wins=int(np.sum(one > other)),
        losses=int(np.sum(one < other)),
        interval=interval,
        p_value=permutation_test(sums, seed),
        design_effect=design_effect(one - other, sums, sizes),
    )


def permutation_test(sums: Sequence[float] | np.ndarray, seed: int = 0) -> float:
    """Probability of a total at least as far from 0 if each group's sum had either sign with even odds; two-sided.

    Of two equally good models each might have been called ours; a group's questions change sides together. The odds
    of each whole total are counted out: the characteristic function of ±s₁ ± s₂ … is the product of cos(t·sᵢ). Where
    the sums are not whole, random signs are drawn.

    For single questions with scores of 0 and 1 this is McNemar's exact test, of wins and losses: questions that both
    answer right, or both wrong, say nothing.

    Args:
        sums: of ours − theirs over each group's questions, (groups,).
        seed: random seed of the signs.

    Example: sums 1, 1, 1 and 0 give 2 · (1/2)³ = 0.25; so does 5, 5, 5: three groups, however many questions.

    Source: Fisher 1935; McNemar 1947; Dror et al. 2018, section 3.2.
    """
    sums = np.asarray(sums, np.float64)
    reached = abs(sums.sum()) * (1 - 1e-9)  # what rounding has made of equal totals is equal
    sizes, counts = np.unique(np.abs(sums[sums != 0]), return_counts=True)
    if not len(sizes):
        return 1.0
    if (sizes == sizes.round()).all():
        most = int(sizes @ counts)
        places = np.arange(2 * most + 1)
        waves = np.ones(len(places))
        for size, count in zip(sizes, counts, strict=True):
            waves *= np.cos(2 * np.pi * places / len(places) * size) ** count
        odds = np.fft.ifft(waves).real
        totals = np.where(places > most, places - len(places), places)
        return float(np.clip(odds[np.abs(totals) >= reached].sum(), 0.0, 1.0))
    generator = np.random.default_rng(seed)
    at_once = max(1, _FLIPS_AT_ONCE // len(sizes))
    beyond = 0
    for done in range(0, _FLIPS, at_once):
        plus = generator.binomial(counts, 0.5, size=(min(at_once, _FLIPS - done), len(sizes)))
        beyond += int(np.sum(np.abs((2 * plus - counts) @ sizes) >= reached))
    return (beyond + 1) / (_FLIPS + 1)


def design_effect(differences: np.ndarray, sums: np.ndarray, sizes: np.ndarray) -> float:
    """The design effect: number of questions in such groups that tell as much as one that is apart.

    Args:
        differences: ours − theirs, (n,).
        sums, sizes: of the groups, see `group_sums`.

    Returns:
        The variance of the total over what it would be if no question had to do with another; 1 or more, and 1 where
        every group is one question. Where all differences are equal it is what questions of a group that always go
        together would give.

    Source: Kish 1965, with the variance between groups as in a cluster sample.
    """
    mean = differences.mean()
    apart = float(np.sum((differences - mean) ** 2))
    if apart == 0:
        return float(np.sum(sizes**2) / np.sum(sizes))
    return max(1.0, float(np.sum((sums - sizes * mean) ** 2)) / apart)


def power(difference: float, questions: int, discordance: float) -> float:
    """Probability that a model is found better (`Comparison.better`) when it truly is, by `difference`.

    Each question is won, lost or tied, with probabilities that differ by `difference` and add up to `discordance`.
    What counts is the exact test: with scores of 0 and 1 it is the stricter of the two.

    Args:
        difference: of the mean score, in [0, 1].
        questions: n, each apart from the others.
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
        questions: n, each apart from the others.
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
