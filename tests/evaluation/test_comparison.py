from itertools import product

import numpy as np
import pytest
from scipy.stats import binom

from ragtune.errors import EvaluationError
from ragtune.evaluation.comparison import compare, detectable_difference, permutation_test, power


def outcomes(generator, difference, questions, discordance):
    """Scores of two models that differ by `difference` in truth: ours and theirs, 1 or 0."""
    won, lost = (discordance + difference) / 2, (discordance - difference) / 2
    drawn = generator.choice(3, size=questions, p=[won, lost, 1 - discordance])
    return (drawn == 0).astype(float), (drawn == 1).astype(float)


def test_wins_losses_and_the_interval_of_a_worked_example():
    comparison = compare([1, 1, 0, 1], [0, 0, 1, 1])
    assert (comparison.questions, comparison.wins, comparison.losses) == (4, 2, 1)
    assert comparison.interval.difference == 0.25
    assert (comparison.p_value, comparison.p_shown) == (1.0, "= 1.000")
    assert compare([1] * 12, [0] * 12).p_shown == "< 0.001"


def sign_test(wins, losses):
    return min(1.0, 2 * binom.cdf(min(wins, losses), wins + losses, 0.5))


@pytest.mark.parametrize(("wins", "losses"), [(3, 0), (0, 6), (5, 1), (2, 2), (0, 0), (40, 21), (300, 240), (1500, 0)])
def test_of_single_questions_the_permutation_test_is_the_exact_sign_test(wins, losses):
    sums = [1.0] * wins + [-1.0] * losses + [0.0] * 10
    assert permutation_test(sums) == pytest.approx(sign_test(wins, losses), abs=1e-12)


def test_the_permutation_test_equals_counting_all_signs():
    sums = np.array([3, -1, 2, 2, 5, 0, 1])
    signs = np.array(list(product((1, -1), repeat=len(sums))))
    assert permutation_test(sums) == pytest.approx(np.mean(np.abs(signs @ sums) >= abs(sums.sum())))
    halves = np.abs(signs @ (sums / 2 + 0.01 * (sums > 2)))
    by_chance = permutation_test(sums / 2 + 0.01 * (sums > 2))
    assert by_chance == pytest.approx(np.mean(halves >= halves[0] - 1e-9), abs=0.01)


def clustered(generator, groups=60, questions=5):
    """Equally good models; on 3 paragraphs of 10 one of them, either, answers nearly all questions better."""
    leads = generator.choice([-1, 0, 1], size=groups, p=[0.15, 0.7, 0.15]).repeat(questions)
    kept = leads * (generator.random(groups * questions) < 0.9)
    return np.arange(groups).repeat(questions), (kept > 0).astype(float), (kept < 0).astype(float)


def test_equal_models_on_five_questions_a_paragraph_pass_no_oftener_than_the_level_says():
    """Each question taken for itself, more than one in ten of them passes."""
    generator = np.random.default_rng(3)
    passed = {"apart": 0, "grouped": 0}
    for _ in range(100):
        groups, ours, theirs = clustered(generator)
        passed["apart"] += compare(ours, theirs).better
        passed["grouped"] += compare(ours, theirs, groups=groups).better
    assert passed["apart"] / 100 > 0.1
    assert passed["grouped"] / 100 <= 0.05


def test_the_power_of_grouped_questions_is_that_of_the_fewer_that_tell_as_much():
    generator = np.random.default_rng(4)
    groups, ours, theirs = clustered(generator, groups=400)
    comparison = compare(ours, theirs, groups=groups)
    assert (comparison.questions, comparison.groups) == (2000, 400)
    assert comparison.design_effect == pytest.approx(1 + 4 * 0.9, rel=0.1)  # 5 questions that go together at .9
    apart = compare(ours, theirs)
    assert apart.design_effect == 1
    assert comparison.detectable == pytest.approx(apart.detectable * 4.6**0.5, rel=0.1)
    assert comparison.power(0.05) < apart.power(0.05)


def test_questions_without_a_score_leave_their_group_smaller():
    comparison = compare([1, 1, np.nan, 1], [0, 0, 0, 1], groups=[4, 4, 4, 9])
    assert (comparison.questions, comparison.groups) == (3, 2)


def test_three_wins_of_five_are_not_better_though_the_bootstrap_says_so():
    comparison = compare([1, 1, 1, 0, 0], [0] * 5)
    assert comparison.interval.low > 0
    assert not comparison.better


def test_questions_without_a_score_on_both_sides_are_left_out():
    comparison = compare([1, np.nan, 1, 0], [0, 1, np.nan, 0])
    assert (comparison.questions, comparison.wins) == (2, 1)


def test_the_exact_test_is_the_stricter_of_the_two_for_scores_of_0_and_1():
    """So its power is that of both."""
    for questions, losses in [(20, 0), (50, 3), (100, 10), (300, 20)]:
        wins = next(wins for wins in range(losses, questions) if sign_test(wins, losses) <= 0.05)
        ours = [1] * wins + [0] * (questions - wins)
        theirs = [0] * wins + [1] * losses + [0] * (questions - wins - losses)
        assert compare(ours, theirs).better


@pytest.mark.parametrize(("difference", "discordance"), [(0.02, 0.2), (0.0742, 0.2), (0.05, 0.06)])
def test_the_power_is_how_often_a_simulated_model_is_found_better(difference, discordance):
    """Two points on 300 questions: about once in ten times."""
    generator = np.random.default_rng(7)
    found = [compare(*outcomes(generator, difference, 300, discordance)).better for _ in range(300)]
    assert power(difference, 300, discordance) == pytest.approx(np.mean(found), abs=0.06)


def test_two_points_on_300_questions_are_found_once_in_ten_times():
    assert 0.08 < power(0.02, 300, 0.2) < 0.12


def test_the_detectable_difference_has_the_power_that_was_wanted():
    smallest = detectable_difference(300, 0.2)
    assert smallest == pytest.approx(0.0742, abs=1e-3)
    assert power(smallest, 300, 0.2) == pytest.approx(0.8, abs=1e-3)
    assert detectable_difference(3000, 0.2) < smallest / 2.5


def test_five_questions_can_find_nothing():
    assert detectable_difference(5, 0.6) is None
    assert compare([1, 1, 1, 0, 0], [0] * 5).detectable is None


def test_equal_answers_still_say_what_a_difference_would_take():
    assert 0 < compare([1.0] * 300, [1.0] * 300).detectable < 0.05


def test_other_questions_on_both_sides_are_an_error():
    with pytest.raises(EvaluationError, match="the same questions"):
        compare([1, 0], [1])


def test_worse_is_better_with_the_sides_changed():
    ours, theirs = [0.0] * 6 + [1.0], [1.0] * 7
    assert compare(ours, theirs).worse and not compare(ours, theirs).better
    assert compare(theirs, ours).better and not compare(theirs, ours).worse
    assert not compare(ours[:4], theirs[:4]).worse  # four losses are unlikely by the bootstrap alone
