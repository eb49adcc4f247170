"""Metrics of a ranking of passages: recall@k, MRR@k and nDCG@k, by gold id or by answer string.

Everything starts from `gains`, (n, k): what the passage at each rank brings for each question, 0 for nothing. The
functions give one figure per question, so that means, subsets and paired intervals come from the same numbers.
"""

from collections.abc import Iterable, Sequence

import numpy as np


def gold_gains(retrieved_sources: Sequence[Iterable[str]], gold_ids: Iterable[str]) -> list[int]:
    """Number of gold ids that each passage is the first to bring, in the order of rank.

    A gold row that was split into several passages counts once, where its first passage stands.

    Args:
        retrieved_sources: each passage's `source_ids`, best first, (k,).
        gold_ids: the question's gold ids.

    >>> gold_gains([["w1"], ["w7"], ["w7"], ["w8", "w9"]], ["w7", "w8", "w9"])
    [0, 1, 0, 2]
    """
    missing = set(gold_ids)
    gains = []
    for sources in retrieved_sources:
        found = missing.intersection(sources)
        missing -= found
        gains.append(len(found))
    return gains


def first_ranks(gains: np.ndarray) -> np.ndarray:
    """The rank, from 1, of the first passage that brings anything; 0 where none does. (n, k) to (n,) int64."""
    hits = gains > 0
    return np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, 0).astype(np.int64)


def recall_at(ranks: np.ndarray, k: int) -> np.ndarray:
    """1.0 where a hit stands among the first k, else 0.0. `ranks` from `first_ranks`, (n,) to (n,).

    This is the open-domain QA field's recall@k, also called top-k accuracy: one hit is enough.

    Source: Karpukhin et al. 2020, section 5.1.
    """
    return ((ranks > 0) & (ranks <= k)).astype(np.float64)


def reciprocal_rank_at(ranks: np.ndarray, k: int) -> np.ndarray:
    """1 / rank of the first hit, 0.0 where it is beyond k or absent; its mean is MRR@k. (n,) to (n,)."""
    return recall_at(ranks, k) / np.maximum(ranks, 1)


def ndcg_at(gains: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Normalised discounted cumulative gain of the first k, in [0, 1].

    DCG = Σ_r gain_r / log2(1 + r) over ranks r = 1 … k; the ideal has min(relevant, k) gains of 1 at the top.

    Args:
        gains: (n, k or more).
        relevant: how many relevant things exist for each question, (n,): its gold ids, or, by answer string, the
            passages among those retrieved that hold the answer (how many do in the whole corpus is not known).
        k: ranks counted.

    Returns:
        (n,); 0.0 where nothing is relevant. A passage that brings several gold ids at once can beat the ideal: 1.0.

    Example: hits at ranks 2 and 3 of 2 relevant: (0.631 + 0.5) / (1 + 0.631) = 0.693.

    Source: Järvelin and Kekäläinen 2002.
    """
    k = min(k, gains.shape[1])
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])[np.minimum(relevant, k)]
    dcg = gains[:, :k] @ discounts
    return np.minimum(np.divide(dcg, ideal, out=np.zeros_like(dcg), where=ideal > 0), 1.0)
