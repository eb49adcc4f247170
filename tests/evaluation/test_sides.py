"""The champion's side of an evaluation, whatever is wrong with it; whole sides are tested in test_evaluate.py."""

import numpy as np
import pytest

from ragtune.errors import KnowledgeBaseError
from ragtune.evaluation import sides
from ragtune.evaluation.champion import Champion
from ragtune.evaluation.sides import Side, closed_book_answers, evaluate_champion
from ragtune.questions.learnt import write_learnt
from ragtune.questions.question import Question

QUESTIONS = [Question(f"q{n}", f"which number is {n}?", ("a",), ("g",)) for n in range(3)]
GENERATION = {"num_beams": 1, "batch_size": 2}


@pytest.fixture
def side():
    columns = {"em_champion": np.ones(3), "recall@5_champion": np.zeros(3), "answer_recall@5_champion": np.ones(3)}
    return Side(["a"] * 3, columns, [None] * 3, [1] * 3, [[]] * 3, {}, 0.0, 0, {}, {})


@pytest.fixture
def champion(tmp_path, side, monkeypatch):
    """A champion whose model and base answer `side`, or raise what it is set to."""
    for name in ("mine", "theirs"):
        (tmp_path / name).mkdir()
    given = {"by_gold": [], "side": side}

    def answers(style, model, base, questions, k, generation, by_gold, retrieval):
        given["by_gold"].append(by_gold)
        if isinstance(given["side"], Exception):
            raise given["side"]
        return given["side"]

    monkeypatch.setattr(sides, "load_model", lambda folder: None)
    monkeypatch.setattr(sides, "knowledge_base_of", lambda folder: None)
    monkeypatch.setattr(sides, "evaluate_side", answers)
    champion = Champion("7", tmp_path / "theirs")
    given["ask"] = lambda by_gold=True: evaluate_champion(
        champion, tmp_path / "mine", QUESTIONS, 5, GENERATION, by_gold, "direct"
    )
    return given


def test_where_its_base_has_no_gold_id_retrieval_is_compared_by_answer(champion):
    side, problem, note = champion["ask"]()
    assert champion["by_gold"] == [None] and problem == ""
    assert set(side.columns) == {"em_champion", "answer_recall@5_champion"}
    assert "has none of the gold ids" in note


def test_by_answer_its_gold_ids_are_not_looked_for(champion):
    side, _, note = champion["ask"](by_gold=False)
    assert champion["by_gold"] == [False]
    assert "recall@5_champion" in side.columns and "gold ids" not in note


def test_a_question_that_one_learnt_from_has_no_score(champion, tmp_path):
    write_learnt(tmp_path / "theirs", ["which number is 1?"])
    side, _, note = champion["ask"](by_gold=False)
    assert np.isnan(side.columns["em_champion"]).tolist() == [False, True, False]
    assert "1 of 3 questions are left out" in note
    write_learnt(tmp_path / "mine", [question.question for question in QUESTIONS])
    assert champion["ask"]()[:2] == (None, "one of the two models learnt from every question; hold out new ones")


@pytest.mark.parametrize(
    ("error", "problem"),
    [(KnowledgeBaseError("it is\ngone"), "it is gone"), (MemoryError("full"), "MemoryError: full")],
)
def test_whatever_goes_wrong_with_it_is_told_in_one_line(champion, error, problem):
    champion["side"] = error
    assert champion["ask"]() == (None, problem, "")


def test_a_champion_without_a_folder_says_why(tmp_path):
    champion = Champion("7", None, "its bucket is gone")
    told = evaluate_champion(champion, tmp_path, QUESTIONS, 5, GENERATION, True, "direct")
    assert told == (None, "its bucket is gone", "")


def test_no_baseline_was_trained_where_its_folder_is_empty(tmp_path):
    assert closed_book_answers("", QUESTIONS, GENERATION) is None
    assert closed_book_answers(tmp_path, QUESTIONS, GENERATION) is None
    assert closed_book_answers(tmp_path / "nowhere", QUESTIONS, GENERATION) is None
