import numpy as np
import pytest

from ragtune.errors import TrainingError
from ragtune.knowledge.passages import Passage
from ragtune.training.validation import Score, chosen_questions, first_hit, recall_cutoffs

PASSAGES = [
    Passage("p0", "Paris", "is the capital of France", ("w0",)),
    Passage("p1#0", "Rome", "is the capital of Italy", ("w1",)),
    Passage("p1#1", "Rome", "has three million people", ("w1",)),
]


def test_a_piece_of_the_gold_passage_is_a_hit():
    assert first_hit(PASSAGES, ["w1"], ["nothing"]) == 2


def test_no_gold_passage_is_no_hit_though_the_answer_stands_there():
    assert first_hit(PASSAGES, ["w7"], ["France"]) == 0


def test_without_gold_ids_an_answer_in_the_text_is_a_hit_and_in_the_title_is_none():
    assert first_hit(PASSAGES, [], ["Three Million"]) == 3
    assert first_hit(PASSAGES, [], ["Rome"]) == 0
    assert first_hit(PASSAGES, [], ["ome"]) == 0


def test_an_answer_is_found_where_words_have_no_boundaries():
    assert first_hit([Passage("p", "", "他在北京工作", ("p",))], [], ["北京"]) == 1


def test_a_score_is_a_mean_over_questions():
    score = Score()
    score.add(2.0, ["Rome", "Paris"], [["rome"], ["Berlin"]])
    score.add(5.0, ["x"], [["x", "y"]])
    score.add_ranks([1, 0, 4], [1, 5])
    assert score.figures() == pytest.approx({"em": 2 / 3, "loss": 3.0, "recall@1": 1 / 3, "recall@5": 2 / 3})


def test_no_questions_have_no_score():
    with pytest.raises(TrainingError, match="no question to evaluate on"):
        Score().figures()


def test_recall_is_not_asked_for_beyond_the_base():
    assert recall_cutoffs(n_docs=3, base_rows=1000) == [1, 3, 5]
    assert recall_cutoffs(n_docs=3, base_rows=4) == [1, 3]


def test_every_evaluation_takes_the_same_questions():
    assert (chosen_questions(100, 10, seed=1) == chosen_questions(100, 10, seed=1)).all()
    assert len(np.unique(chosen_questions(100, 10, seed=1))) == 10
    assert chosen_questions(5, 0, seed=1).tolist() == chosen_questions(5, 10, seed=1).tolist() == [0, 1, 2, 3, 4]
