import numpy as np
import pytest

from ragtune.evaluation.calibration import calibration, right_as_one


def test_each_bin_says_its_mean_probability_and_its_share_of_right_passages():
    curve = calibration(np.array([0.1, 0.9, 0.9]), np.array([False, True, False]))
    assert curve.probability == pytest.approx([0.1, 0.9])
    assert curve.share_right == pytest.approx([0.0, 0.5])
    assert curve.passages.tolist() == [1, 2]
    assert curve.error == pytest.approx((0.1 + 2 * 0.4) / 3)


def test_a_probability_of_one_falls_in_the_last_bin():
    assert calibration(np.array([1.0]), np.array([True])).error == 0.0


def test_well_calibrated_probabilities_have_almost_no_error():
    generator = np.random.default_rng(0)
    probabilities = generator.random(50_000)
    right = generator.random(50_000) < probabilities
    assert calibration(probabilities, right).error < 0.01
    assert calibration(np.sqrt(probabilities), right).error > 0.1


def test_several_right_passages_are_one_outcome():
    """A model that is sure of the answer, and finds it in three passages, is not unsure of each."""
    probabilities, right = right_as_one(np.array([1 / 3] * 3), np.array([True] * 3))
    assert calibration(probabilities, right).error == pytest.approx(0)
    probabilities, right = right_as_one(np.array([0.5, 0.3, 0.2]), np.array([True, False, True]))
    assert (probabilities.tolist(), right.tolist()) == ([0.7, 0.3], [True, False])


def test_padding_and_questions_without_a_right_passage_stay_as_they_are():
    probabilities, right = right_as_one(np.array([0.6, 0.4, 0.0]), np.array([False, False, False]))
    assert (probabilities.tolist(), right.tolist()) == ([0.6, 0.4], [False, False])


def test_outcomes_drawn_as_their_probabilities_say_are_calibrated_however_many_passages_share_them():
    generator = np.random.default_rng(1)
    outcomes = []
    for _ in range(20_000):
        shares = generator.dirichlet(np.ones(3))
        truth = generator.choice(3, p=shares)
        copies = 1 + truth  # the more often an answer stands in passages, the more of them share its probability
        split = np.append(np.delete(shares, truth), np.full(copies, shares[truth] / copies))
        outcomes.append(right_as_one(split, np.arange(2 + copies) >= 2))
    probabilities, right = (np.concatenate(part) for part in zip(*outcomes, strict=True))
    assert calibration(probabilities, right).error < 0.01
