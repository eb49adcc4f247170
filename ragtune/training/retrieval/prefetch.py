"""The search for the next step's passages, in a thread of its own while the current step trains."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ragtune.knowledge.retrieved import Retrieved
from ragtune.training.retrieval.search import Queries, Search, search_at_once

_ARRAYS = ("rows", "scores", "embeddings")


class SearchAhead:
    """At most one step's search at a time.

    The thread encodes nothing: it is given vectors. Nobody else may use `search` meanwhile; whoever wants to calls
    `wait` first. Over several processes all start, wait and take in the same order.
    """

    def __init__(self, search: Search):
        """Set up; no thread is started yet."""
        self.search = search
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="search")
        self._found: Future[list[Retrieved]] | None = None

    def start(self, queries: Sequence[Queries], k: int) -> None:
        """Begin to search for the next step's batches, (B_i, d) each."""
        self._found = self._thread.submit(search_at_once, self.search, queries, k)

    def take(self) -> list[Retrieved] | None:
        """What was found, an answer a batch; None if nothing was asked.

        Raises:
            Exception: what the search raised.
        """
        found, self._found = self._found, None
        return found.result() if found else None

    def wait(self) -> None:
        """Come back when no search is under way; what it found, or raised, is for `take`."""
        if self._found is not None:
            self._found.exception()

    def check(self) -> None:
        """Wait, and raise what the search raised, which would else look like a failure to save."""
        if self._found is not None:
            self._found.result()

    def forget(self) -> None:
        """Wait, and drop what was found."""
        self.wait()
        self._found = None

    def save(self, folder: Path, process: int) -> None:
        """Leave in a checkpoint what was found for this process, if anything was asked.

        The passages, not what was asked: the knowledge base may be another one when the checkpoint is gone on from.
        """
        if self._found is not None:
            answers = self._found.result()
            np.savez(
                _file(folder, process),
                **{f"{name}{i}": getattr(found, name) for i, found in enumerate(answers) for name in _ARRAYS},
            )

    def load(self, folder: Path, process: int, processes: int, sizes: Sequence[int]) -> None:
        """Read back what `save` left; nothing where a step is dealt out otherwise by now, and has to ask again.

        Args:
            folder: the checkpoint.
            process: this one's number.
            processes: how many there are.
            sizes: questions in each of this process's batches of a step.
        """
        path = _file(folder, process)
        if path.exists() and not _file(folder, processes).exists() and _file(folder, processes - 1).exists():
            with np.load(path) as arrays:
                answers = range(len(arrays.files) // len(_ARRAYS))
                found = [Retrieved(*(arrays[f"{name}{i}"] for name in _ARRAYS)) for i in answers]
            if [len(part.rows) for part in found] == list(sizes):
                self._found = Future()
                self._found.set_result(found)


def _file(folder: Path, process: int) -> Path:
    return folder / f"searched-{process}.npz"
