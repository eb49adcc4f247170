import numpy as np
import pytest

from ragtune.errors import KnowledgeBaseError
from ragtune.knowledge import exact
from ragtune.knowledge.exact import ExactSearcher, ranked


def by_brute_force(queries, vectors, k):
    scores = queries @ vectors.T
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return rows, np.take_along_axis(scores, rows, 1)


@pytest.fixture(params=[1, 3], ids=["one device", "three devices"])
def devices(request):
    return ["cpu"] * request.param


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(exact, "_ROWS_PER_BLOCK", 100)
    monkeypatch.setattr(exact, "_SCORES_PER_BLOCK", 1700)  # 17 queries at once


@pytest.fixture
def vectors():
    return np.random.default_rng(0).normal(size=(1030, 24)).astype(np.float32)


@pytest.mark.parametrize("k", [1, 5, 100, 1030])
@pytest.mark.parametrize("count", [1, 40])
def test_it_finds_what_brute_force_finds(vectors, devices, k, count):
    queries = np.random.default_rng(1).normal(size=(count, 24)).astype(np.float32)
    rows, scores = ExactSearcher(vectors, devices).search(queries, k)
    expected_rows, expected_scores = by_brute_force(queries, vectors, k)
    assert (rows.dtype, scores.dtype) == (np.int64, np.float32)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-5, atol=1e-5)
    assert np.array_equal(rows, expected_rows)


def test_of_equal_scores_the_lower_row_comes_first(devices):
    """Small whole numbers: every product is exact, and most are equal to others, across blocks and devices too."""
    rng = np.random.default_rng(0)
    vectors = rng.integers(-1, 2, (1030, 6)).astype(np.float32)
    queries = rng.integers(-1, 2, (30, 6)).astype(np.float32)
    queries[0] = 0
    for k in (1, 7, 150):
        rows, scores = ExactSearcher(vectors, devices).search(queries, k)
        expected_rows, expected_scores = by_brute_force(queries, vectors, k)
        assert np.array_equal(scores, expected_scores)
        assert np.array_equal(rows, expected_rows)


def test_more_than_there_is_gives_padding(vectors, devices):
    queries = vectors[:2]
    rows, scores = ExactSearcher(vectors[:5], devices).search(queries, 8)
    assert rows[:, 5:].tolist() == [[-1] * 3] * 2
    assert np.isneginf(scores[:, 5:]).all()
    assert np.array_equal(rows[:, :5], by_brute_force(queries, vectors[:5], 5)[0])


def test_fewer_rows_than_devices(vectors):
    rows, _ = ExactSearcher(vectors[:2], ["cpu"] * 3).search(vectors[:1], 1)
    assert rows.tolist() == [[0]]


def test_no_query_gives_an_empty_answer(vectors, devices):
    rows, scores = ExactSearcher(vectors, devices).search(vectors[:0], 4)
    assert (rows.shape, scores.shape) == ((0, 4), (0, 4))


def test_vectors_may_stay_on_disk(vectors, tmp_path):
    np.save(tmp_path / "vectors.npy", vectors)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    rows, _ = ExactSearcher(mapped).search(vectors[:3], 4)
    assert np.array_equal(rows, by_brute_force(vectors[:3], vectors, 4)[0])


@pytest.mark.parametrize(
    ("queries", "k", "message"),
    [
        (np.zeros((2, 23)), 4, r"the vectors have 24 dimensions, the queries have shape \(2, 23\)"),
        (np.zeros(24), 4, r"the queries have shape \(24,\)"),
        (np.zeros((2, 24)), 0, "k = 0: must be at least 1"),
        (np.full((2, 24), np.nan), 4, "the queries hold NaN or infinity"),
    ],
)
def test_what_cannot_be_searched_is_named(vectors, queries, k, message):
    with pytest.raises(KnowledgeBaseError, match=message):
        ExactSearcher(vectors).search(queries, k)


def test_candidates_are_ranked_by_their_true_inner_products():
    vectors = np.array([[1, 0], [3, 0], [0, 1], [3, 5]], np.float32)
    queries = np.array([[1, 0], [-1, 0]], np.float32)
    found = ranked(queries, np.array([[0, 3, -1, 1], [-1, 1, 2, -1]]), vectors)
    assert found.rows.tolist() == [[1, 3, 0, -1], [2, 1, -1, -1]]
    assert found.scores.tolist() == [[3, 3, 1, -np.inf], [0, -3, -np.inf, -np.inf]]
    assert np.array_equal(found.embeddings[0], [[3, 0], [3, 5], [1, 0], [0, 0]])
