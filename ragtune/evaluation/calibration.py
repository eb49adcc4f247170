"""Calibration of p(z|x): of the passages given 0.8, 8 in 10 should turn out right.

Where several passages of a question are right, they are judged as one, see `right_as_one`: the curve then says nothing
of how p(z|x) is shared out among them, and a single passage given 0.8 may be right more often, or less.
"""

from dataclasses import dataclass

import numpy as np

BINS = 10


@dataclass(frozen=True)
class Calibration:
    """A reliability curve: for each bin of [0, 1] that holds passages, in ascending order, (bins,) each.

    Attributes:
        probability: the mean p(z|x) of the bin's passages.
        share_right: the share of them that are right.
        passages: how many there are.
    """

    probability: np.ndarray
    share_right: np.ndarray
    passages: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error, Σ_b n_b/n · |share_right_b − probability_b|, in [0, 1]. Naeini et al. 2015."""
        return float(np.average(np.abs(self.share_right - self.probability), weights=self.passages))


def calibration(probabilities: np.ndarray, right: np.ndarray, bins: int = BINS) -> Calibration:
    """Sort passages into `bins` equal parts of [0, 1] by probability, and see how many in each are right.

    Args:
        probabilities: p(z|x) of each retrieved passage, (n,) with n > 0; see `right_as_one` for several right ones.
        right: whether that passage is gold, or holds an answer, (n,) bool.

    Example: probabilities .1, .9, .9 and right no, yes, no give (.1: 0 of 1) and (.9: 1 of 2), error (.1 + 2 · .4) / 3.
    """
    numbers = np.minimum((probabilities * bins).astype(int), bins - 1)
    passages = np.bincount(numbers, minlength=bins)
    used = passages > 0
    sums = np.bincount(numbers, weights=probabilities, minlength=bins)
    rights = np.bincount(numbers, weights=right, minlength=bins)
    return Calibration(sums[used] / passages[used], rights[used] / passages[used], passages[used])


def right_as_one(probabilities: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One question's passages with all right ones as a single outcome, its probability their sum.

    p(z|x) sums to 1 over a question's passages. Where three of them hold the answer, a model that gives each of them
    1/3 is as sure as can be and right; taken one by one they would look like three guesses of 1/3 that always come
    true. As one outcome, a question's outcomes exclude one another, as its probabilities do.

    Args:
        probabilities: p(z|x), (k,); 0 is padding, which is dropped.
        right: (k,) bool.

    Returns:
        Probabilities and bools of the outcomes, the right one, if there is any, first.

    Example: .5, .3, .2 and right yes, no, yes give (.7, .3) and (yes, no).
    """
    used = probabilities > 0
    probabilities, right = probabilities[used], right[used].astype(bool)
    if right.any():
        probabilities = np.concatenate([[min(probabilities[right].sum(), 1.0)], probabilities[~right]])
    return probabilities, np.arange(len(probabilities)) < right.any()
