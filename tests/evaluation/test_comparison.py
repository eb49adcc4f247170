import numpy as np
import pytest

from ragtune.errors import EvaluationError
from ragtune.evaluation.comparison import compare, detectable_difference, power, sign_test


def outcomes(generator, difference, questions, discordance):
    """Scores of two models that differ by `difference` in truth: ours and theirs, 1 or 0."""
    won, lost = (discordance + difference) / 2, (discordance - difference) / 2
    drawn = generator.choice(3, size=questions, p=[won, lost, 1 - discordance])
    return (drawn == 0).astype(float), (drawn == 1).astype(float)


def test_wins_losses_and_the_interval_of_a_worked_example():
    comparison = compare([1, 1, 0, 1], [0, 0, 1, 1])
    assert (comparison.questions, comparison.wins, comparison.losses) == (4, 2, 1)
    assert comparison.interval.difference == 0.25
    assert comparison.p_value == 1.0


def test_the_sign_test_is_the_binomial_counted_by_hand():
    assert sign_test(3, 0) == pytest.approx(0.25)
    assert sign_test(0, 6) == pytest.approx(2 / 64)
    assert sign_test(5, 1) == pytest.approx(2 * (1 + 6) / 64)
    assert sign_test(2, 2) == sign_test(0, 0) == 1.0


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
