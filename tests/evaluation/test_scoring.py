import logging

import numpy as np
import pyarrow as pa
import pytest

from ragtune.evaluation.scoring import Hits, gold_ids_known, retrieved_entries, score_answers, summarise
from ragtune.knowledge.passages import Passages
from ragtune.questions.question import Question

PASSAGES = Passages(
    pa.table(
        {
            "id": ["w1", "w2#0", "w2#1", "w3"],
            "title": ["Nile", "", "", ""],
            "text": ["A river in Egypt.", "Peru is far.", "Know Peru well.", "No."],
            "source_ids": [["w1"], ["w2"], ["w2"], ["w3", "w4"]],
        }
    ),
    "four passages",
)
QUESTIONS = [
    Question("q1", "where is the nile", ("Egypt", "Africa"), ("w1",)),
    Question("q2", "where is lima", ("Peru",), ("w2",)),
    Question("q3", "yes or no", ("no",)),
]
ROWS = np.array([[3, 0, 1], [2, 1, 0], [1, 2, -1]])


def hits(by_gold=True):
    return Hits(QUESTIONS, ROWS, PASSAGES, by_gold)


def test_hits_by_gold_id_and_by_answer_string():
    assert hits().gold.tolist() == [[False, True, False], [True, True, False], [False] * 3]
    assert hits().answer.tolist() == [[False, True, False], [True, True, False], [False] * 3]
    assert hits().gains.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]


def test_a_gold_id_named_twice_is_one():
    twice = [Question("q1", "where is the nile", ("Egypt",), ("w1", "w1"))]
    columns = Hits(twice, np.array([[0, 1]]), PASSAGES, True).columns("after")
    np.testing.assert_allclose(columns["ndcg@10_after"], [1.0])


def test_an_answer_is_found_where_words_have_no_boundaries():
    chinese = Passages(pa.table({"id": ["c1"], "text": ["他在北京工作"]}), "one passage")
    assert Hits([Question("q", "?", ("北京",))], np.array([[0]]), chinese, True).answer.tolist() == [[True]]


def test_ranking_goes_by_gold_id_over_the_questions_that_have_one():
    columns = hits().columns("after")
    np.testing.assert_equal(columns["recall@1_after"], [0, 1, np.nan])
    np.testing.assert_equal(columns["answer_recall@1_after"], [0, 1, 0])
    np.testing.assert_equal(columns["mrr@10_after"], [0.5, 1, np.nan])
    np.testing.assert_allclose(columns["ndcg@10_after"], [1 / np.log2(3), 1, np.nan])


def test_ranking_goes_by_answer_string_where_no_gold_id_is_known():
    columns = hits(by_gold=False).columns("after")
    np.testing.assert_equal(columns["recall@5_after"], [1, 1, 0])
    np.testing.assert_equal(columns["recall@5_after"], columns["answer_recall@5_after"])


def test_gold_ids_of_another_corpus_are_left_aside_with_a_warning(caplog):
    assert gold_ids_known(QUESTIONS, PASSAGES)
    foreign = [Question("q", "?", ("a",), ("x7", "x8"))]
    with caplog.at_level(logging.WARNING):
        assert not gold_ids_known(foreign, PASSAGES)
    assert "none of the questions' 2 gold ids is in four passages" in caplog.text


def test_questions_without_gold_ids_need_no_warning(caplog):
    assert not gold_ids_known(QUESTIONS[2:], PASSAGES)
    assert not caplog.text


def test_calibration_counts_each_passage_that_took_part():
    probabilities = np.array([[0.25, 0.75, 0.0], [1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    assert hits().calibration_error(probabilities) == pytest.approx((0.25 + 0.25 + 0) / 3)
    assert hits(by_gold=False).calibration_error(probabilities) == pytest.approx((0.25 + 0.25 + 0 + 2 * 0.5) / 5)


def test_calibration_by_answer_takes_passages_that_hold_it_together():
    probabilities = np.array([[0.25, 0.75, 0.0], [0.5, 0.5, 0.0], [0.5, 0.5, 0.0]])
    assert hits(by_gold=False).calibration_error(probabilities) == pytest.approx((0.25 + 0.25 + 0 + 2 * 0.5) / 5)


def test_entries_say_what_each_answer_was_made_from():
    probabilities = np.array([[0.25, 0.75], [1.0, 0.0], [0.5, 0.5]])
    entries = retrieved_entries(ROWS, probabilities, hits(), PASSAGES)
    assert entries[0][1] == {"id": "w1", "probability": 0.75, "gold": True, "answer": True}
    assert entries[2][0]["gold"] is None
    assert [len(row) for row in entries] == [2, 2, 2]


def test_padding_gives_no_entry():
    entries = retrieved_entries(ROWS, np.array([[0.5, 0.5, 0.0]] * 3), hits(), PASSAGES)
    assert [len(row) for row in entries] == [3, 3, 2]


def test_answers_are_scored_question_by_question():
    columns = score_answers(QUESTIONS, ["egypt", "Lima, Peru", ""], "after")
    assert columns["em_after"].tolist() == [1, 0, 0]
    assert columns["f1_after"].tolist() == pytest.approx([1, 2 / 3, 0])
    assert columns["rougeL_after"].tolist() == pytest.approx([1, 2 / 3, 0])


def test_a_summary_has_means_and_intervals_over_the_chosen_questions():
    columns = {"em_before": np.zeros(50), "em_after": np.ones(50), "recall@5_before": np.full(50, np.nan)}
    columns["em_after"][0] = 0
    metrics = summarise(columns, np.arange(50) < 10, "answerable_")
    assert metrics["answerable_em_after"] == pytest.approx(0.9)
    assert metrics["answerable_em_difference"] == pytest.approx(0.9)
    assert 0 < metrics["answerable_em_difference_low"] < 0.9 <= metrics["answerable_em_difference_high"] <= 1
    assert "answerable_recall@5_before" not in metrics
