"""Whether a freshly written index finds what it should: a sample of its own vectors against exact search."""

import numpy as np
from feast import FeatureView, RepoConfig

from ragtune.errors import KnowledgeBaseError
from ragtune.knowledge.embedding import EmbeddingCache, Vectors, slices
from ragtune.knowledge.hashes import Hashes
from ragtune.knowledge.online_store import BatchedMilvusOnlineStore
from ragtune.knowledge.passages import Passages

_PROBES = 64
_NEIGHBOURS = 10
_ROWS_AT_ONCE = 65_536


def probe_recall(
    config: RepoConfig, view: FeatureView, online: BatchedMilvusOnlineStore, passages: Passages, cache: EmbeddingCache
) -> float:
    """Search with the vectors of some passages, and compare with exact search over all that should be there.

    Returns:
        The fraction of their nearest ten that was found.

    Raises:
        KnowledgeBaseError: a vector comes back other than it was written.
    """
    hashes = passages.content_hashes
    chosen = np.random.default_rng(0).permutation(len(passages))[:_PROBES]
    queries = cache.vectors(hashes[chosen])[:]
    k = min(_NEIGHBOURS, len(passages))
    ids, scores, embeddings = online.search_batch(config, view, queries, k, consistency_level="Strong")
    found = ids != ""
    expected = cache.vectors(hashes[passages.rows_of(ids[found])])[:]
    if not np.array_equal(embeddings[found], expected):
        raise KnowledgeBaseError(
            f"{passages.place}: Milvus gives back other vectors than were written to {view.name}; nothing was "
            "switched. Ingest into a new folder"
        )
    worst = _exact_worst_scores(queries, hashes, cache, k)
    # By score, not by id: which of several equally good passages is found does not matter.
    tolerance = 1e-5 * np.abs(worst) + 1e-6
    return float((scores >= (worst - tolerance)[:, None]).mean())


def _exact_worst_scores(queries: Vectors, hashes: Hashes, cache: EmbeddingCache, k: int) -> Vectors:
    """The inner product of each query with its k-th best vector, (B,)."""
    best = np.full((len(queries), k), -np.inf, np.float32)
    for part in slices(len(hashes), _ROWS_AT_ONCE):
        scores = np.concatenate([best, queries @ cache.vectors(hashes[part])[:].T], axis=1)
        best = np.partition(scores, scores.shape[1] - k, axis=1)[:, -k:]
    return best.min(axis=1)
