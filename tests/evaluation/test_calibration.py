import numpy as np
import pytest

from ragtune.evaluation.calibration import calibration


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
