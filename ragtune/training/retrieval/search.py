"""The `Search` protocol, and a wrapper that retries while the server behind it is being restarted."""

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ragtune.errors import KnowledgeBaseError, UnavailableError
from ragtune.knowledge.retrieved import Retrieved
from ragtune.progress import say

PATIENCE_SECONDS = 90.0  # from a failure to the last try: a Milvus server needs less to come back
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 8.0

Queries = npt.NDArray[np.float32]


class Search(Protocol):
    """A source of passages: a `ragtune.knowledge.knowledge_base.KnowledgeBase`, or one of `ragtune.training`."""

    def search(self, queries: Queries, k: int) -> Retrieved:
        """The best k passages for each of the (B, d) queries."""


class Connection(Search, Protocol):
    """A search that holds something open."""

    def close(self) -> None:
        """Let go of it."""


def search_at_once(search: Search, queries: Sequence[Queries], k: int) -> list[Retrieved]:
    """One search for several batches of queries, (B_i, d) each; one answer per batch."""
    found = search.search(np.concatenate(queries), k)
    bounds = np.cumsum([0, *map(len, queries)])
    return [
        Retrieved(found.rows[start:end], found.scores[start:end], found.embeddings[start:end])
        for start, end in pairwise(bounds)
    ]


class Retrying:
    """A search that survives a restart of its server: reconnects and retries, for `PATIENCE_SECONDS`."""

    def __init__(self, connect: Callable[[], Connection]):
        """Set up; nothing is connected before `connect` or the first search.

        Args:
            connect: makes a connection, or raises a KnowledgeBaseError.
        """
        self._connect = connect
        self._connection: Connection | None = None

    def connect(self) -> Connection:
        """The connection, made now if there is none.

        Raises:
            KnowledgeBaseError: it cannot be made.
        """
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def search(self, queries: Queries, k: int) -> Retrieved:
        """As `Search.search`.

        Raises:
            KnowledgeBaseError: it cannot be answered, however often it is asked; or has not been for too long.
        """
        pause = FIRST_PAUSE_SECONDS
        failed_at = 0.0
        while True:
            try:
                found = self.connect().search(queries, k)
            except KnowledgeBaseError as error:
                # What is starting again may say anything, such as that it has no rows; before that it means it.
                if not failed_at and not isinstance(error, UnavailableError):
                    raise
                now = time.monotonic()
                failed_at = failed_at or now
                if now + pause > failed_at + PATIENCE_SECONDS:
                    raise KnowledgeBaseError(
                        f"{error} (asked for {now - failed_at:.0f} s without success; once it answers, the same call "
                        "resumes from the last checkpoint)"
                    ) from error
                say(f"warning: retrieval: {error}; retrying in {pause:g} s")
                self.close()
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            else:
                if failed_at:
                    say(f"retrieval: answers again after {time.monotonic() - failed_at:.1f} s")
                return found

    def close(self) -> None:
        """Let go of the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
