"""What is dropped from the candidates for hard negatives, and why."""

import numpy as np
import pytest

from ragtune.knowledge.passages import Passage
from ragtune.training.methods.hard_negatives import ANSWER, DUPLICATE, GOLD, KEPT, MARGIN, Relevance, judge

TEXTS = [
    "Paris is the capital of France.",  # 0: gold
    "PARIS is the capital of France",  # 1: gold's text, but for case and punctuation
    "The Seine flows through Paris.",  # 2: holds the answer
    "Parisian food is rich.",  # 3: does not, on word boundaries
    "Berlin lies in Germany.",  # 4
    "Rome lies in Italy.",  # 5
]
PASSAGES = [Passage(f"p{row}", "", text, (f"p{row}", f"doc{row}")) for row, text in enumerate(TEXTS)]


def found(*scores):
    """Rows and scores as a search gives them, the best first."""
    order = sorted(range(len(scores)), key=lambda row: -scores[row])
    return np.array([*order, -1]), np.array([*(scores[row] for row in order), -np.inf], np.float32)


def judged(*scores, margin=0.05, answers=("Paris",), gold=("doc0",)):
    relevance = Relevance(PASSAGES, [gold], [answers])
    return judge(relevance, 0, relevance.positives(0), *found(*scores), margin)


def test_of_all_candidates_those_that_may_be_right_are_dropped_and_counted():
    of_question = judged(0.9, 0.8, 0.8, 0.7, 0.89, 0.2)
    assert of_question.negatives == [3, 5]
    assert of_question.counts == {GOLD: 1, DUPLICATE: 1, ANSWER: 1, MARGIN: 1, KEPT: 2}


@pytest.mark.parametrize(("answer", "reason"), [("Paris", ANSWER), ("London", "")])
def test_a_duplicate_is_dropped_whatever_the_answer(answer, reason):
    relevance = Relevance(PASSAGES, [("p0",)], [(answer,)])
    assert [relevance.why_right(0, row) for row in (0, 1, 2, 3)] == [GOLD, DUPLICATE, reason, ""]


@pytest.mark.parametrize(
    ("positive", "negative", "margin", "is_kept"),
    [
        (0.8, 0.755, 0.05, True),  # the limit is 0.76
        (0.8, 0.765, 0.05, False),
        (0.8, 0.79, 0.0, True),
        (-0.4, -0.43, 0.05, True),  # below −0.4 too, where 0.95 · −0.4 would be above it
        (-0.4, -0.41, 0.05, False),
        (0.4, 0.6, -1.0, True),
    ],
)
def test_the_margin_is_below_the_positives_score_whatever_its_sign(positive, negative, margin, is_kept):
    of_question = judged(positive, -2.0, -2.0, -2.0, negative, -2.0, margin=margin)
    assert (4 in of_question.negatives) is is_kept


def test_of_several_positives_the_best_one_sets_the_margin():
    both = judged(0.9, -1, 0.3, -1, 0.5, -1, gold=("p0", "p2"))
    assert 4 in both.negatives


def test_candidates_of_a_positive_that_was_not_found_are_all_above_it():
    relevance = Relevance(PASSAGES, [("p0",)], [("Paris",)])
    of_question = judge(relevance, 0, [0], np.array([4, 5]), np.array([0.5, 0.4], np.float32), 0.05)
    assert of_question.negatives == [] and of_question.counts == {MARGIN: 2}


def test_of_a_gold_document_in_pieces_those_that_hold_an_answer_are_positives():
    pieces = [Passage("a#1", "", "It is old.", ("a",)), Passage("a#2", "", "Paris is it.", ("a",))]
    assert Relevance(pieces, [("a",)], [("Paris",)]).positives(0) == [1]
    assert Relevance(pieces, [("a",)], [("Rome",)]).positives(0) == [0, 1]


def test_without_gold_the_first_passage_found_with_an_answer_is_positive():
    relevance = Relevance(PASSAGES, [()], [("Paris",)])
    assert relevance.positives(0, [4, 3, 2, 0]) == [2]
    assert relevance.positives(0, [4, 5, -1]) == []
    assert relevance.positives(0) == []


def test_in_a_pool_right_passages_repetitions_and_padding_are_no_negatives():
    relevance = Relevance(PASSAGES, [("p0",), ("p4",)], [("Paris",), ("Berlin",)])
    pool = np.array([0, 4, 5, 2, 5, -1])  # two positives, then the negatives of the two
    excluded = relevance.excluded([0, 1], np.array([0, 1]), pool)
    assert excluded.tolist() == [[False, False, False, True, True, True], [False, False, False, False, True, True]]


def test_a_pool_is_judged_as_each_passage_is_alone():
    """Of any script, answers of one letter, of none that is a letter, and of a lone surrogate among them."""
    texts = ["他在北京工作。", "Βερολίνο, 1 of 2", "the “Café” at 5–7", "a \ud800 b", "", "x", "THE café.", *TEXTS]
    passages = [Passage(f"p{row}", "", text, (f"p{row}",)) for row, text in enumerate(texts)]
    answers = [("北京",), ("2", "x"), ("Café", "the"), ("\ud800",), ("βερολίνο",), ("$", "5"), ()]
    gold = [("p3",), ("p1", "gone"), ("p6",), ("p4",), ("p12", "p7"), (), ("p5",)]
    relevance = Relevance(passages, gold, answers)
    rows = np.array([*range(len(texts)), -1])
    pool = np.concatenate([np.full(len(gold), -1), rows])
    found = relevance.excluded(range(len(gold)), np.arange(len(gold)), pool)[:, len(gold) :]
    alone = [[row == -1 or bool(relevance.why_right(n, row)) for row in rows.tolist()] for n in range(len(gold))]
    assert found.tolist() == alone and 5 < np.sum(alone) < np.size(alone) / 2
