"""The report's words on a promotion, which must say what the comparison found."""

import pytest

from ragtune.evaluation.champion_section import champion_section


@pytest.fixture
def judged():
    """The section for 60 questions, of which this model wins 40 against 20 right ones of the champion."""

    def judged(champion, wins=40, groups=60, evaluated=True):
        predictions = [
            {"em_after": float(n < wins), "em_before": 0.0, "group": n % groups} | ({"em_champion": float(n >= 40)})
            for n in range(60)
        ]
        metrics = {f"em_{style}": value for style, value in (("after", wins / 60), ("champion", 1 / 3))}
        metrics |= {"em_champion_difference": wins / 60 - 1 / 3}
        metrics |= {"em_champion_difference_low": 0.123, "em_champion_difference_high": 0.5}
        if not evaluated:
            metrics = {"em_after": wins / 60}
        return champion_section(metrics, predictions, champion)

    return judged


def test_a_model_that_wins_passes_and_stands_beside_the_champion(judged):
    section = judged({"version": "7<", "note": "few & old"})
    assert "The champion, version 7&lt;, was asked the same questions" in section
    assert "Of their comparison: few &amp; old." in section
    assert "wins 40 questions and loses 20 against the champion" in section
    assert "<td>33.3" in section and "<td>66.7" in section
    assert "12.3 to " in section and "Recall@5" not in section


def test_a_model_that_does_not_win_does_not_pass(judged):
    assert "<b>passes</b>" in judged({"version": "7"}, wins=60)
    assert "<b>does not pass</b>" in judged({"version": "7"}, wins=21)


def test_without_a_champions_answers_the_model_before_is_the_opponent(judged):
    first = judged({}, evaluated=False)
    assert "There was no champion" in first and "against the model before" in first and "<table>" not in first
    gone = judged({"version": "7", "problem": "its folder <b> is gone."}, evaluated=False)
    assert "could not be asked these questions: its folder &lt;b&gt; is gone." in gone
    assert "promote: force" in gone


def test_groups_are_told_where_questions_share_one(judged):
    assert "groups" not in judged({"version": "7"})
    shared = judged({"version": "7"}, groups=20)
    assert "with 60 questions in 20 groups" in shared and "tell as much as" in shared
