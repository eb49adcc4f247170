import numpy as np
import pytest

from ragtune.errors import RagtuneError, RegistryError
from ragtune.registry.promotion import decide_promotion


def predictions(right, champion=None, questions=200, base=0):
    """The first `right` of `questions` are answered right, by the champion the first `champion`, by the base `base`."""
    rows = [
        {"group": number, "em_after": float(number < right), "em_before": float(number < base)}
        for number in range(questions)
    ]
    return rows if champion is None else [row | {"em_champion": float(n < champion)} for n, row in enumerate(rows)]


def against_champion(right, champion, questions=200, **settings):
    return decide_promotion(predictions(right, champion, questions), evaluated="3", today="3", **settings)


def test_a_clear_rise_over_the_champion_is_promoted():
    decision = against_champion(150, 100)
    assert decision.promote and not decision.baseline
    assert decision.comparison.interval.difference == 0.25
    assert "against the champion, version 3, EM differs by +25.0 points" in decision.reason
    assert "above zero, 50 won and 0 lost (p < 0.001), over 200 questions" in decision.reason


@pytest.mark.parametrize(("right", "side"), [(101, "not above zero"), (100, "not above zero"), (50, "below zero")])
def test_chance_a_tie_or_a_fall_leaves_the_champion(right, side):
    decision = against_champion(right, 100)
    assert not decision.promote
    assert side in decision.reason


@pytest.mark.parametrize(("right", "base", "promoted"), [(150, 100, True), (105, 100, False), (20, 160, False)])
def test_the_first_model_is_champion_if_it_beats_its_base_and_a_baseline_if_not(right, base, promoted):
    decision = decide_promotion(predictions(right, base=base))
    assert (decision.promote, decision.baseline) == (promoted, not promoted)
    assert decision.reason.startswith("against its own base, as there is no champion, EM differs by")


def test_three_wins_of_five_are_not_enough():
    decision = against_champion(3, 0, questions=5, min_questions=1)
    assert decision.comparison.interval.low > 0  # the bootstrap alone would promote it
    assert not decision.promote


def test_five_wins_and_no_loss_may_be_chance_on_any_number_of_questions():
    assert not against_champion(105, 100).promote
    assert against_champion(106, 100).promote


def test_too_few_questions_promote_nothing_however_clear():
    decision = against_champion(90, 10, questions=99)
    assert not decision.promote
    assert decision.reason.endswith("over 99 questions: fewer questions than min_test_questions=100")
    assert against_champion(90, 10, questions=99, min_questions=99).promote


def test_questions_of_one_paragraph_count_once():
    """Seen: of equal models on 60 paragraphs of 5 questions, up to .175 were promoted."""
    rows = [row | {"group": row["group"] // 5} for row in predictions(115, 100, questions=300)]
    decision = decide_promotion(rows, evaluated="1", today="1", min_questions=60)
    assert not decision.promote and decision.comparison.groups == 60
    assert "(p = 0.250), over 300 questions in 60 groups that share a document" in decision.reason
    apart = decide_promotion(predictions(115, 100, questions=300), evaluated="1", today="1")
    assert apart.promote
    clear = [row | {"group": row["group"] // 5} for row in predictions(250, 50, questions=300)]
    assert decide_promotion(clear, evaluated="1", today="1", min_questions=60).promote
    few = decide_promotion(clear, evaluated="1", today="1")
    assert not few.promote and few.reason.endswith("fewer groups than min_test_questions=100")


@pytest.mark.parametrize(("evaluated", "today"), [("1", "2"), ("", "2"), ("1", "")])
def test_a_champion_that_changed_since_the_evaluation_stays(evaluated, today):
    """Two candidates judged side by side against version 1 must not both become champion, the worse one last."""
    decision = decide_promotion(predictions(150, 100), evaluated=evaluated, today=today)
    assert not decision.promote and decision.stale and not decision.baseline
    assert "the champion has changed since the evaluation" in decision.reason
    assert "run the pipeline again" in decision.reason


def test_a_champion_that_could_not_be_evaluated_stays_and_the_reason_says_why():
    decision = decide_promotion(predictions(150), evaluated="3", today="3", problem="/kb: no knowledge base there")
    assert not decision.promote
    assert "version 3, could not be evaluated (/kb: no knowledge base there)" in decision.reason
    assert "promote=force" in decision.reason


def test_what_is_to_be_known_of_the_comparison_stands_in_the_reason():
    assert against_champion(150, 100, note="5 are left out").reason.endswith("over 200 questions; 5 are left out")


def test_force_promotes_and_says_so():
    decision = against_champion(50, 100, promote="force")
    assert decision.promote
    assert decision.reason.startswith("forced, although against the champion, version 3, EM differs by -25.0")
    assert against_champion(150, 100, promote="force").reason.startswith("against the champion")
    assert decide_promotion(predictions(1), evaluated="1", today="2", promote="force").promote


def test_never_promotes_nothing_and_tells_what_the_rule_would():
    decision = against_champion(150, 100, promote="never")
    assert not decision.promote
    assert decision.reason.startswith("promote=never; against the champion, version 3, EM differs by +25.0")


def test_another_metric_may_decide_over_the_questions_that_have_it():
    rows = [
        row | {"recall@5_after": 1.0, "recall@5_before": None if n < 50 else 0.0}
        for n, row in enumerate(predictions(0))
    ]
    decision = decide_promotion(rows, metric="recall@5")
    assert decision.promote and decision.comparison.questions == 150
    assert "recall@5 differs by +100.0 points" in decision.reason


def test_an_equal_model_is_promoted_once_in_forty_times_at_most():
    generator = np.random.default_rng(0)
    promoted = 0
    for _ in range(200):
        ours, theirs = generator.random((2, 150)) < 0.5
        pairs = enumerate(zip(ours, theirs, strict=True))
        rows = [{"group": number, "em_after": float(a), "em_champion": float(b)} for number, (a, b) in pairs]
        promoted += decide_promotion(rows, evaluated="1", today="1").promote
    assert promoted / 200 <= 0.045


def test_a_model_without_predictions_is_an_error():
    with pytest.raises(RegistryError, match=r"predictions\.jsonl is empty"):
        decide_promotion([])


def test_predictions_without_the_scores_are_an_error():
    with pytest.raises(RegistryError, match="has no 'em_champion'; was it written by"):
        decide_promotion(predictions(150), evaluated="1", today="1")


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"promote": "yes"}, "must be auto, never or force"), ({"min_questions": 0}, "min_test_questions=0")],
)
def test_settings_that_mean_nothing_are_an_error(settings, message):
    with pytest.raises(RagtuneError, match=message):
        against_champion(150, 100, **settings)
