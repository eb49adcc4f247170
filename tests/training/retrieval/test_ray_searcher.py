"""An actor's inside, without Ray: searches that wait share the next one."""

import asyncio
import threading

import numpy as np
import pytest
from exact_search import ExactSearch

from ragtune.errors import KnowledgeBaseError
from ragtune.training.retrieval import ray_searcher
from ragtune.training.retrieval.ray_searcher import Searcher

VECTORS = np.eye(4, dtype=np.float32)


class Slow(ExactSearch):
    """Waits in its first search until it is told to go on."""

    def __init__(self):
        super().__init__(VECTORS)
        self.asked, self.goes_on, self.sizes, self.closed = threading.Event(), threading.Event(), [], False

    def search(self, queries, k):
        self.asked.set()
        assert self.goes_on.wait(10)
        self.sizes.append((len(queries), k))
        if queries[0, 0] < 0:
            raise KnowledgeBaseError("its collection is gone")
        return super().search(queries, k)

    def close(self):
        self.closed = True


@pytest.fixture
def base(monkeypatch):
    base = Slow()
    monkeypatch.setattr(ray_searcher, "_open", lambda folder, uri: base)
    return base


def test_those_that_wait_share_a_search_each_with_its_own_k_and_answer(base):
    async def scenario():
        searcher = Searcher("folder", "")
        await searcher.connect()
        first = asyncio.create_task(searcher.search(VECTORS[:1], 2))
        await asyncio.to_thread(base.asked.wait, 10)
        others = [
            asyncio.create_task(searcher.search(VECTORS[row : row + 1], k)) for row, k in ((1, 2), (2, 3), (3, 2))
        ]
        await asyncio.sleep(0)
        base.goes_on.set()
        return [await task for task in (first, *others)]

    found = asyncio.run(scenario())
    assert [answer.rows[0, 0] for answer in found] == [0, 1, 2, 3]
    assert [answer.rows.shape for answer in found] == [(1, 2), (1, 2), (1, 3), (1, 2)]
    assert base.sizes == [(1, 2), (2, 2), (1, 3)]


def test_an_error_reaches_those_who_asked_and_the_next_search_goes_on(base):
    async def scenario():
        searcher = Searcher("folder", "")
        base.goes_on.set()
        with pytest.raises(KnowledgeBaseError, match="its collection is gone"):
            await searcher.search(-VECTORS[:1], 1)
        return await searcher.search(VECTORS[1:2], 1)

    assert asyncio.run(scenario()).rows.tolist() == [[1]]
