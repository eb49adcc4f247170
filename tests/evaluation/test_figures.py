"""The report's charts: what is drawn of which data, and what the sentence under each says."""

import re

import pytest

from ragtune.evaluation.figures import evidence


def captions(html):
    return re.findall(r"<figcaption>(.*?)</figcaption>", html)


@pytest.fixture
def inputs(report_inputs):
    return report_inputs["metrics"], report_inputs["predictions"], report_inputs["training_log"]


def test_every_figure_has_its_caption(inputs):
    assert captions(evidence(*inputs)) == [
        "Answers, in per cent",
        "Recall@k",
        "Question by question, in per cent",
        "Calibration of p(z|x)",
        "Training loss",
        "Exact match while training",
    ]


def test_a_chart_without_data_is_left_out(inputs):
    metrics, predictions, _ = inputs
    for row in predictions:
        row["retrieved_before"] = row["retrieved_after"] = []
    no_loss = [{"step": 1, "loss": float("inf")}, {"step": 2, "em": None}]
    assert captions(evidence(metrics, predictions, no_loss)) == [
        "Answers, in per cent",
        "Recall@k",
        "Question by question, in per cent",
    ]


def test_the_turns_are_counted(inputs):
    assert "By exact match: 5 right twice, 40 won, 5 lost, 10 wrong twice." in evidence(*inputs)


def test_the_closed_book_baseline_is_drawn_where_there_is_one(inputs):
    metrics, predictions, log = inputs
    assert "From left to right: before, after, closed-book." in evidence(metrics, predictions, log)
    without = {name: value for name, value in metrics.items() if not name.endswith("closed_book")}
    assert "From left to right: before, after." in evidence(without, predictions, log)


def test_recall_is_by_gold_passage_where_gold_is_known_and_else_by_answer(inputs):
    metrics, predictions, log = inputs
    assert "Share of questions with a gold passage among the first k." in evidence(metrics, predictions, log)
    by_answer = evidence(metrics | {"gold_questions": 0, "index_recall@5_after": 0.987}, predictions, log)
    assert "with a passage that holds an answer among the first k. Of the first 5 passages of exact" in by_answer
    assert "the index found 98.7%" in by_answer
