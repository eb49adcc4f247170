import numpy as np
import pytest

from ragtune.errors import EvaluationError
from ragtune.evaluation.bootstrap import paired_bootstrap


def scores(questions=400, rise=0.1):
    generator = np.random.default_rng(1)
    before = (generator.random(questions) < 0.4).astype(float)
    return before, np.maximum(before, generator.random(questions) < rise)


def test_the_interval_agrees_with_resampling_questions_one_by_one():
    before, after = scores()
    generator = np.random.default_rng(2)
    drawn = generator.integers(0, len(before), size=(10_000, len(before)))
    low, high = np.quantile((after - before)[drawn].mean(axis=1), [0.025, 0.975])
    interval = paired_bootstrap(before, after)
    assert interval.difference == pytest.approx(np.mean(after) - np.mean(before))
    assert interval.low == pytest.approx(low, abs=0.004)
    assert interval.high == pytest.approx(high, abs=0.004)


def test_the_same_seed_gives_the_same_interval():
    assert paired_bootstrap(*scores(), seed=3) == paired_bootstrap(*scores(), seed=3)


def test_the_interval_holds_the_true_difference_about_95_times_in_100():
    generator = np.random.default_rng(4)
    true_rise, held, trials = 0.6 * 0.1, 0, 300
    for _ in range(trials):
        before = (generator.random(300) < 0.4).astype(float)
        after = np.maximum(before, generator.random(300) < 0.1)
        interval = paired_bootstrap(before, after, resamples=1000)
        held += interval.low <= true_rise <= interval.high
    assert 0.90 <= held / trials <= 0.98


def test_many_distinct_scores_stay_within_bounded_memory():
    generator = np.random.default_rng(5)
    before = generator.random(5_000)
    interval = paired_bootstrap(before, before + 0.1 * generator.random(5_000), resamples=2_000)
    assert 0.04 < interval.low < interval.difference < interval.high < 0.06


def test_different_questions_on_both_sides_are_an_error():
    with pytest.raises(EvaluationError, match="3 before and 2 after"):
        paired_bootstrap([0, 1, 1], [1, 0])


def test_no_questions_are_an_error():
    with pytest.raises(EvaluationError, match="at least one"):
        paired_bootstrap([], [])


def test_groups_are_drawn_whole_whatever_their_sizes():
    generator = np.random.default_rng(6)
    groups = generator.integers(0, 40, 300)
    before = (generator.random(300) < 0.4).astype(float)
    after = np.maximum(before, (generator.random(40) < 0.3)[groups])
    members = [np.flatnonzero(groups == group) for group in range(40)]
    means = []
    for _ in range(3000):
        drawn = np.concatenate([members[group] for group in generator.integers(0, 40, 40)])
        means.append((after - before)[drawn].mean())
    low, high = np.quantile(means, [0.025, 0.975])
    interval = paired_bootstrap(before, after, groups=groups)
    assert interval.difference == pytest.approx(np.mean(after - before))
    assert interval.low == pytest.approx(low, abs=0.01)
    assert interval.high == pytest.approx(high, abs=0.01)
    assert interval.low < paired_bootstrap(before, after).low
