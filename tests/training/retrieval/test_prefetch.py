import threading

import numpy as np
import pytest
from exact_search import ExactSearch

from ragtune.training.retrieval.prefetch import SearchAhead
from ragtune.training.retrieval.search import search_at_once

STORED = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
QUERIES = list(np.random.default_rng(1).normal(size=(2, 3, 4)).astype(np.float32))


class SlowSearch(ExactSearch):
    """Answers when it is let go."""

    def __init__(self):
        super().__init__(STORED)
        self.go = threading.Event()

    def search(self, queries, k):
        assert self.go.wait(10)
        return super().search(queries, k)


def same(found, expected):
    return all((a.rows == b.rows).all() and (a.scores == b.scores).all() for a, b in zip(found, expected, strict=True))


def test_what_was_asked_is_found_once():
    ahead = SearchAhead(ExactSearch(STORED))
    assert ahead.take() is None
    ahead.start(QUERIES, 3)
    assert same(ahead.take(), search_at_once(ExactSearch(STORED), QUERIES, 3))
    assert ahead.take() is None


def test_the_search_does_not_hold_up_who_starts_it():
    search = SlowSearch()
    ahead = SearchAhead(search)
    ahead.start(QUERIES, 3)
    assert search.calls == 0
    search.go.set()
    ahead.wait()
    assert search.calls == 1
    assert len(ahead.take()) == 2


def test_something_is_built_of_the_answers_in_the_same_thread():
    ahead = SearchAhead(ExactSearch(STORED))
    ahead.start(QUERIES, 3, lambda found: (threading.current_thread().name, [len(part.rows) for part in found]))
    ahead.take()
    thread, sizes = ahead.take_built()
    assert thread.startswith("search") and sizes == [3, 3]
    assert ahead.take_built() is None


def test_what_goes_wrong_is_told_when_the_answer_is_wanted():
    ahead = SearchAhead(ExactSearch(STORED))
    ahead.start([np.zeros((1, 7), np.float32)], 3)
    ahead.wait()
    for tell in (ahead.check, ahead.take):
        with pytest.raises(ValueError, match="matmul"):
            tell()


def test_what_was_forgotten_is_not_found():
    ahead = SearchAhead(ExactSearch(STORED))
    ahead.start(QUERIES, 3)
    ahead.forget()
    assert ahead.take() is None


def test_what_goes_wrong_while_building_is_told_when_it_is_wanted_and_not_before():
    ahead = SearchAhead(ExactSearch(STORED))
    ahead.start(QUERIES, 3, lambda found: 1 / 0)
    ahead.wait()
    assert len(ahead.take()) == 2
    with pytest.raises(ZeroDivisionError):
        ahead.take_built()


def test_a_checkpoint_remembers_what_each_process_has_found(tmp_path):
    for process in range(2):
        asking = SearchAhead(ExactSearch(STORED))
        asking.start([QUERIES[process]], 3)
        asking.save(tmp_path, process)
    for process in range(2):
        again = SearchAhead(ExactSearch(STORED[::-1]))
        again.load(tmp_path, process, 2, [len(QUERIES[process])])
        assert same(again.take(), search_at_once(ExactSearch(STORED), [QUERIES[process]], 3))


def test_a_checkpoint_without_a_search_under_way_holds_none(tmp_path):
    ahead = SearchAhead(ExactSearch(STORED))
    ahead.save(tmp_path, 0)
    assert list(tmp_path.iterdir()) == []
    ahead.load(tmp_path, 0, 1, [2])
    assert ahead.take() is None


@pytest.mark.parametrize(("process", "processes", "batches"), [(0, 1, [2]), (0, 2, [1, 1]), (0, 3, [2])])
def test_passages_of_questions_that_were_dealt_out_otherwise_are_not_taken(tmp_path, process, processes, batches):
    for number in range(2):
        asking = SearchAhead(ExactSearch(STORED))
        asking.start([QUERIES[number][:2]], 3)
        asking.save(tmp_path, number)
    ahead = SearchAhead(ExactSearch(STORED))
    ahead.load(tmp_path, process, processes, batches)
    assert ahead.take() is None
