"""Metrics to choose the best step by, of those that an evaluation knows."""

from types import SimpleNamespace

import pytest

from ragtune.errors import TrainingError
from ragtune.training.arguments import RagTrainingArguments
from ragtune.training.scoring import check_metric

READS = SimpleNamespace(parts={"question_encoder", "generator"})
FINDS_ONLY = SimpleNamespace(parts={"question_encoder"})


def check(metric, method=READS, search="one", base_rows=3, **parameters):
    args = RagTrainingArguments(
        output_dir="run", report_to="none", n_docs=2, metric_for_best_model=metric, **parameters
    )
    check_metric(args, method, search, base_rows)


@pytest.mark.parametrize("metric", ["em", "loss", "recall@1", "recall@2"])
def test_what_an_evaluation_knows_chooses(metric):
    check(metric)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"metric": "em", "method": FINDS_ONLY}, "em: takes a generator"),
        ({"metric": "recall@1", "search": None}, "recall@1: takes a search"),
        ({"metric": "recall@5"}, "recall@5: the knowledge base has 3 passages only; take recall@1 or recall@2"),
    ],
)
def test_what_it_does_not_know_is_refused_before_training(given, message):
    with pytest.raises(TrainingError, match=f"metric_for_best_model={message}"):
        check(**given)
    check(**given, eval_strategy="no")
