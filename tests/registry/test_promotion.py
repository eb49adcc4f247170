import pytest

from ragtune.errors import RegistryError
from ragtune.registry.promotion import decide_promotion


def predictions(right, questions=200, base=0, first=0):
    """The first `right` of `questions` are answered right, by the base model the first `base`."""
    return [
        {
            "question": f"What is number {first + number}?",
            "answers": ["yes"],
            "prediction_after": "Yes!" if number < right else "no",
            "em_after": float(number < right),
            "em_before": float(number < base),
        }
        for number in range(questions)
    ]


def test_a_clear_rise_over_the_champion_is_promoted():
    decision = decide_promotion(predictions(150), predictions(100), "version 3")
    assert decision.promote
    assert decision.questions == 200
    assert decision.interval.difference == 0.25
    assert "against version 3 EM differs by +25.0 points" in decision.reason
    assert "above zero, over 200 questions" in decision.reason


@pytest.mark.parametrize(("right", "side"), [(101, "not above zero"), (100, "not above zero"), (50, "below zero")])
def test_chance_a_tie_or_a_fall_leaves_the_champion(right, side):
    decision = decide_promotion(predictions(right), predictions(100))
    assert not decision.promote
    assert side in decision.reason


def test_the_first_model_is_promoted_and_the_reason_tells_how_it_does_against_its_base():
    decision = decide_promotion(predictions(50, base=100), None)
    assert decision.promote
    assert "no champion yet" in decision.reason and "below zero" in decision.reason


def test_questions_are_the_same_whatever_their_order_case_and_ids():
    champion = [row | {"question": row["question"].upper(), "id": "other"} for row in predictions(100)[::-1]]
    assert decide_promotion(predictions(150), champion).questions == 200


def test_the_common_questions_decide_where_there_are_enough():
    decision = decide_promotion(predictions(200), predictions(0, first=90))
    assert decision.promote and decision.questions == 110
    assert "those of its 200 that both were asked" in decision.reason


def test_too_few_common_questions_leave_the_champion():
    decision = decide_promotion(predictions(200), predictions(0, first=190))
    assert not decision.promote and decision.interval is None
    assert "only 10 of its 200 questions" in decision.reason


def test_a_small_but_identical_set_is_compared():
    assert decide_promotion(predictions(20, questions=20), predictions(2, questions=20)).promote


def test_force_promotes_and_says_so():
    decision = decide_promotion(predictions(50), predictions(100), force=True)
    assert decision.promote
    assert decision.reason.startswith("forced, although against the champion EM differs by -25.0")


def test_the_champion_is_scored_against_the_references_of_today():
    mended = [row | {"answers": ["yes", "no"], "em_after": 1.0} for row in predictions(150)]
    decision = decide_promotion(mended, predictions(100))
    assert decision.interval.difference == 0.0


def test_a_model_without_predictions_is_an_error():
    with pytest.raises(RegistryError, match=r"predictions\.jsonl is empty"):
        decide_promotion([], None)
