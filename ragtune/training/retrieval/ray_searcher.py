"""The inside of a Ray actor: the knowledge base, open, and one search at a time for all who wait."""

import asyncio
from itertools import groupby

from ragtune.knowledge.retrieved import Retrieved
from ragtune.training.retrieval.search import Connection, Queries, Retrying, search_at_once


class Searcher:
    """An actor's class. Queries that arrive while a search goes on share the next one: four batches at once take half
    the time of four searches.
    """

    def __init__(self, folder: str, uri: str):
        """Set up; the knowledge base is opened by `connect` or, after a restart, by the first search."""
        self._knowledge_base = Retrying(lambda: _open(folder, uri))
        self._waiting: list[tuple[int, Queries, asyncio.Future[Retrieved]]] = []
        self._work: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Open the knowledge base.

        Raises:
            KnowledgeBaseError: as `KnowledgeBase.open`.
        """
        await asyncio.to_thread(self._knowledge_base.connect)

    async def search(self, queries: Queries, k: int) -> Retrieved:
        """As `Search.search`."""
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append((k, queries, answer))
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._search_for_all())
        return await answer

    async def _search_for_all(self) -> None:
        while self._waiting:
            waiting, self._waiting = sorted(self._waiting, key=lambda entry: entry[0]), []
            for k, same_k in groupby(waiting, key=lambda entry: entry[0]):
                _, queries, answers = zip(*same_k, strict=True)
                try:
                    found = await asyncio.to_thread(search_at_once, self._knowledge_base, queries, k)
                except Exception as error:
                    for answer in answers:
                        answer.set_exception(error)
                else:
                    for answer, part in zip(answers, found, strict=True):
                        answer.set_result(part)


def _open(folder: str, uri: str) -> Connection:
    from ragtune.knowledge.knowledge_base import KnowledgeBase

    return KnowledgeBase.open(folder, uri=uri)
