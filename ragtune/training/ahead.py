"""The search for the next step's passages, in a thread of its own while the current step trains."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ragtune.knowledge.retrieved import Retrieved
from ragtune.training.retrieval import Queries, Search, search_at_once


class SearchAhead:
    """At most one step's search at a time.

    The thread encodes nothing: it is given vectors, which are kept until its answer is taken, so that a checkpoint can
    remember what was asked. Nobody else may use `search` meanwhile; whoever wants to calls `wait` first. Over several
    processes all start, wait and take in the same order.
    """

    def __init__(self, search: Search):
        """Set up; no thread is started yet."""
        self.search = search
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="search")
        self._queries: Sequence[Queries] = ()
        self._found: Future[list[Retrieved]] | None = None

    def start(self, queries: Sequence[Queries], k: int) -> None:
        """Begin to search for the next step's batches, (B_i, d) each."""
        self._queries = queries
        self._found = self._thread.submit(search_at_once, self.search, queries, k)

    def take(self, k: int) -> list[Retrieved] | None:
        """What was found, an answer a batch; None if nothing was asked.

        Raises:
            Exception: what the search raised.
        """
        if self._found is None and self._queries:  # remembered by a checkpoint
            self.start(self._queries, k)
        found, self._found, self._queries = self._found, None, ()
        return found.result() if found else None

    def wait(self) -> None:
        """Come back when no search is under way; what it found, or raised, is for `take`."""
        if self._found is not None:
            self._found.exception()

    def forget(self) -> None:
        """Wait, and drop what was found."""
        self.wait()
        self._found, self._queries = None, ()

    def save(self, folder: Path, process: int) -> None:
        """Leave this process's vectors in a checkpoint, if there are any."""
        if self._queries:
            np.savez(_file(folder, process), *self._queries)

    def load(self, folder: Path, process: int) -> None:
        """Read back what `save` left; the search for it begins when it is asked for."""
        path = _file(folder, process)
        if path.exists():
            with np.load(path) as arrays:
                self._queries = [arrays[name] for name in arrays.files]


def _file(folder: Path, process: int) -> Path:
    return folder / f"queries-{process}.npz"
