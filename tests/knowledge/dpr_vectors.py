"""Vectors as DPR makes them, and questions on them."""

import numpy as np


def dpr_vectors(rows, dimension, norms=1.0, seed=0, length=10.0):
    """Not of length 1, with a common mean: the cosine between two of them is about .5.

    Args:
        rows, dimension: (rows, dimension).
        norms: the longest is so many times as long as the shortest.
        seed: random seed.
        length: of the shortest.
    """
    rng = np.random.default_rng(seed)
    common, own = _units(rng, 1, dimension), _units(rng, rows, dimension)
    lengths = length * np.exp(rng.uniform(0, np.log(norms), (rows, 1)))
    return (lengths * np.sqrt(0.5) * (common + own)).astype(np.float32)


def questions_on(vectors, count, seed=1, noise=0.7):
    """Which passages are asked for, and the vectors of the questions: theirs with noise, and another common part."""
    rng = np.random.default_rng(seed)
    asked = rng.choice(len(vectors), count, replace=False)
    own = vectors[asked] - vectors.mean(axis=0)
    lengths = np.linalg.norm(own, axis=1, keepdims=True)
    queries = own + noise * lengths * _units(rng, count, vectors.shape[1])
    return asked, (queries + lengths.mean() * _units(rng, 1, vectors.shape[1])).astype(np.float32)


def found_of_exact(vectors, queries, asked, rows, k):
    """Of the passages that exact search finds among the first k, the share that is in `rows` (B, ≥ k)."""
    exact = np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :k]
    there = (exact == asked[:, None]).any(axis=1)
    return (rows[there, :k] == asked[there, None]).any(axis=1).mean()


def _units(rng, rows, dimension):
    vectors = rng.normal(size=(rows, dimension))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
