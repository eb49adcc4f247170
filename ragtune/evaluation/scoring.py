"""From what two models and the closed-book baseline answered to metrics, and to one record per question."""

import itertools
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ragtune.evaluation.answers import ROUGE_NAMES, exact_match, f1, rouge
from ragtune.evaluation.bootstrap import paired_bootstrap
from ragtune.evaluation.calibration import calibration, right_as_one
from ragtune.evaluation.ranking import first_ranks, gold_gains, ndcg_at, recall_at, reciprocal_rank_at
from ragtune.knowledge.passages import Passages
from ragtune.questions.normalization import normalize_for_matching
from ragtune.questions.question import Question
from ragtune.questions.relevance import are_gold, hold_answer

RECALL_AT = (1, 5, 20)
RANKED_AT = 10  # MRR and nDCG
WITH_INTERVAL = ("em", "f1", "recall@1", "recall@5", "answer_recall@1", "answer_recall@5")
_DIFFERENCES = {"before": "difference", "champion": "champion_difference"}
_log = logging.getLogger(__name__)

Columns = dict[str, np.ndarray]
"""One score per question, (n,) float64 each, by the metric's name; NaN where a question has no such score."""


def score_answers(questions: Sequence[Question], answers: Sequence[str], suffix: str) -> Columns:
    """em, f1, rouge1, rouge2 and rougeL of each answer, under names such as `em_after`."""
    columns: dict[str, list[float]] = {name: [] for name in ("em", "f1", *ROUGE_NAMES)}
    for question, answer in zip(questions, answers, strict=True):
        scores = {"em": exact_match(answer, question.answers), "f1": f1(answer, question.answers)}
        for name, value in (scores | rouge(answer, question.answers)).items():
            columns[name].append(value)
    return {f"{name}_{suffix}": np.array(values) for name, values in columns.items()}


class Hits:
    """The retrieved passages that help, by gold id and by answer string.

    Attributes:
        gold, answer: (n, k) bool, whether the passage at each rank is (a piece of) a gold passage; holds an answer.
        gains: (n, k), `gold_gains`.
        asked: (n,) bool, whether the question has gold ids at all.
    """

    def __init__(self, questions: Sequence[Question], rows: np.ndarray, passages: Passages, by_gold: bool):
        """Look up n questions' (n, k) rows; `by_gold` False treats all gold ids as unknown."""
        self.asked = np.array([by_gold and bool(question.gold_ids) for question in questions])
        self.gold, self.answer = np.zeros(rows.shape, bool), np.zeros(rows.shape, bool)
        self.gains = np.zeros(rows.shape)
        self.relevant = np.array([len(set(question.gold_ids)) for question in questions])
        for number, question in enumerate(questions):
            found = [passages[row] for row in rows[number].tolist() if row >= 0]
            texts = [normalize_for_matching(passage.text) for passage in found]
            self.answer[number, : len(found)] = list(hold_answer(texts, question.answers))
            if self.asked[number]:
                sources = [passage.source_ids for passage in found]
                self.gold[number, : len(found)] = list(are_gold(sources, question.gold_ids))
                self.gains[number, : len(found)] = gold_gains(sources, question.gold_ids)

    def columns(self, suffix: str) -> Columns:
        """recall@k, mrr@10 and ndcg@10 of each question, by answer string with the prefix `answer_`.

        Without the prefix they go by gold id, NaN for a question that has none; by answer string if none has any.
        """
        by_answer = _ranking(self.answer, self.answer.sum(axis=1))
        by_gold = by_answer
        if self.asked.any():
            by_gold = _ranking(self.gains, self.relevant)
            by_gold = {name: np.where(self.asked, values, np.nan) for name, values in by_gold.items()}
        return {
            **{f"{name}_{suffix}": values for name, values in by_gold.items()},
            **{f"answer_{name}_{suffix}": values for name, values in by_answer.items()},
        }

    def calibration_error(self, probabilities: np.ndarray) -> float:
        """Distance of p(z|x), (n, n_docs), from the share of passages that are gold, or hold an answer; several right
        ones of a question count as one, see `right_as_one`. NaN where no question can be judged."""
        by_gold = self.asked.any()
        right = (self.gold if by_gold else self.answer)[:, : probabilities.shape[1]]
        judged = self.asked if by_gold else np.ones(len(probabilities), bool)
        outcomes = [right_as_one(*row) for row in zip(probabilities[judged], right[judged], strict=True)]
        shares, hits = (np.concatenate(part) for part in zip(*outcomes, strict=True))
        return calibration(shares, hits).error if len(shares) else math.nan


def gold_ids_known(questions: Sequence[Question], passages: Passages) -> bool:
    """Tell whether gold ids can judge the retrieval: some question has one that stands in the corpus.

    Gold ids none of which is in the corpus belong to another one; that is warned of, and they are left aside.
    """
    wanted = {gold for question in questions for gold in question.gold_ids}
    if not wanted:
        return False
    if passages.names_any(wanted):
        return True
    _log.warning(
        "none of the questions' %d gold ids is in %s: retrieval is judged by answer string", len(wanted), passages.place
    )
    return False


def summarise(
    columns: Mapping[str, np.ndarray],
    chosen: np.ndarray,
    prefix: str = "",
    seed: int = 0,
    groups: np.ndarray | None = None,
) -> dict[str, float]:
    """Means over the chosen questions, and 95 % intervals of the differences after − before and after − champion.

    Args:
        columns: by metric name.
        chosen: (n,) bool; at least one.
        prefix: put before every name.
        seed: random seed of the bootstrap.
        groups: the group of each question, (n,), see `paired_bootstrap`.

    Returns:
        `em_before`, `em_after` …; `em_difference`, `em_difference_low`, `em_difference_high` for `WITH_INTERVAL`, and
        `em_champion_difference` … where there is a champion. A metric that none of the chosen questions has is left
        out.
    """
    kept = {name: values[chosen] for name, values in columns.items() if not np.isnan(values[chosen]).all()}
    metrics = {f"{prefix}{name}": float(np.nanmean(values)) for name, values in kept.items()}
    for name, (opponent, label) in itertools.product(WITH_INTERVAL, _DIFFERENCES.items()):
        if f"{name}_{opponent}" in kept:
            theirs, after = kept[f"{name}_{opponent}"], kept[f"{name}_after"]
            known = ~(np.isnan(theirs) | np.isnan(after))
            own = None if groups is None else groups[chosen][known]
            interval = paired_bootstrap(theirs[known], after[known], seed=seed, groups=own)
            metrics[f"{prefix}{name}_{label}"] = interval.difference
            metrics[f"{prefix}{name}_{label}_low"] = interval.low
            metrics[f"{prefix}{name}_{label}_high"] = interval.high
    return metrics


def retrieved_entries(
    rows: np.ndarray, probabilities: np.ndarray, hits: Hits, passages: Passages
) -> list[list[dict[str, Any]]]:
    """For each question the passages that it was answered from: id, p(z|x), gold (None: unknown), answer.

    Args:
        rows: (n, k), as `hits` was made from.
        probabilities: p(z|x) of the first n_docs, (n, n_docs).
    """
    n_docs = probabilities.shape[1]
    return [
        [
            {
                "id": passages[row].id,
                "probability": float(probabilities[number, rank]),
                "gold": bool(hits.gold[number, rank]) if hits.asked[number] else None,
                "answer": bool(hits.answer[number, rank]),
            }
            for rank, row in enumerate(rows[number, :n_docs].tolist())
            if row >= 0
        ]
        for number in range(len(rows))
    ]


def _ranking(gains: np.ndarray, relevant: np.ndarray) -> Columns:
    ranks = first_ranks(gains)
    return {
        **{f"recall@{k}": recall_at(ranks, k) for k in RECALL_AT},
        f"mrr@{RANKED_AT}": reciprocal_rank_at(ranks, RANKED_AT),
        f"ndcg@{RANKED_AT}": ndcg_at(gains, relevant, RANKED_AT),
    }
