import numpy as np
import pytest
from dpr_vectors import dpr_vectors

from ragtune.knowledge.exact import ExactSearcher
from ragtune.knowledge.probe import Probe


@pytest.fixture(scope="module")
def vectors():
    return dpr_vectors(2000, 32)


@pytest.fixture(scope="module")
def probe(vectors):
    return Probe(vectors)


def without(vectors, lost):
    """A search that misses some rows, and finds the next best in their place."""
    kept = np.setdiff1d(np.arange(len(vectors)), lost)
    exact = ExactSearcher(vectors[kept])
    return lambda queries, k: kept[exact.search(queries, k)[0]]


def test_exact_search_satisfies_it(vectors, probe):
    found = probe.ask(lambda queries, k: ExactSearcher(vectors).search(queries, k)[0])
    assert (found.recall, found.nearest, found.satisfies) == (1.0, 1.0, True)
    assert found.milliseconds > 0


def test_an_index_that_loses_passages_does_not(vectors, probe):
    lost = np.random.default_rng(0).choice(len(vectors), len(vectors) // 20, replace=False)
    found = probe.ask(without(vectors, lost))
    assert 0.9 < found.recall < 0.97
    assert not found.satisfies


def test_losing_what_nobody_asks_for_shows_among_the_nearest(vectors, probe):
    lost = np.setdiff1d(np.arange(len(vectors)), probe.asked)[::2]
    found = probe.ask(without(vectors, lost))
    assert found.recall == 1
    assert found.nearest < 0.9
    assert not found.satisfies


def test_an_index_that_finds_nothing_does_not(probe):
    found = probe.ask(lambda queries, k: np.full((len(queries), k), -1))
    assert (found.recall, found.nearest) == (0, 0)


def test_questions_are_not_the_passages_own_vectors(vectors, probe):
    away = np.linalg.norm(probe.questions - vectors[probe.asked], axis=1)
    assert away.min() > 0.3 * np.linalg.norm(vectors - vectors.mean(axis=0), axis=1).max()
    assert len(np.unique(probe.asked)) == 768


def test_it_does_not_matter_which_of_two_equal_passages_is_found():
    vectors = np.repeat(dpr_vectors(300, 16), 2, axis=0)
    found = Probe(vectors).ask(lambda queries, k: ExactSearcher(vectors).search(queries, k)[0] ^ 1)
    assert (found.recall, found.nearest) == (1, 1)


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_a_few_passages_are_enough(rows):
    vectors = dpr_vectors(rows, 8)
    assert Probe(vectors).ask(lambda queries, k: ExactSearcher(vectors).search(queries, k)[0]).satisfies
