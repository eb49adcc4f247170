import math
import random

import numpy as np
import pytest

from ragtune.evaluation.ranking import first_ranks, gold_gains, ndcg_at, recall_at, reciprocal_rank_at


def random_gains(questions=200, k=20):
    return (np.random.default_rng(0).random((questions, k)) < 0.1).astype(np.int64)


def test_a_split_gold_row_counts_once_and_a_merged_passage_for_all_it_holds():
    assert gold_gains([["w1"], ["w7"], ["w7"], ["w8", "w9"]], ["w7", "w8", "w9"]) == [0, 1, 0, 2]


def test_first_ranks_count_from_one_and_zero_means_none():
    assert first_ranks(np.array([[0, 0, 1], [1, 1, 0], [0, 0, 0]])).tolist() == [3, 1, 0]


@pytest.mark.parametrize("k", [1, 5, 10, 20])
def test_recall_and_reciprocal_rank_equal_a_loop(k):
    gains = random_gains()
    ranks = first_ranks(gains)
    for row, recall, reciprocal in zip(gains, recall_at(ranks, k), reciprocal_rank_at(ranks, k), strict=True):
        hits = [rank for rank, gain in enumerate(row[:k], 1) if gain]
        assert recall == bool(hits)
        assert reciprocal == (1 / hits[0] if hits else 0)


def test_ndcg_equals_a_loop():
    gains = random_gains()
    chooser = random.Random(0)
    relevant = np.array([row.sum() + chooser.randint(0, 5) for row in gains])
    for row, count, ndcg in zip(gains, relevant, ndcg_at(gains, relevant, 10), strict=True):
        dcg = sum(1 / math.log2(1 + rank) for rank, gain in enumerate(row[:10], 1) if gain)
        ideal = sum(1 / math.log2(1 + rank) for rank in range(1, min(count, 10) + 1))
        assert ndcg == pytest.approx(dcg / ideal if ideal else 0)


def test_ndcg_of_hits_at_ranks_two_and_three_of_two():
    assert ndcg_at(np.array([[0, 1, 1]]), np.array([2]), 10)[0] == pytest.approx(0.6934, abs=1e-4)


def test_ndcg_never_exceeds_one_where_a_passage_brings_two_gold_ids():
    assert ndcg_at(np.array([[2, 0]]), np.array([2]), 10)[0] == 1.0
