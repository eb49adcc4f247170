"""The search for the next step's passages, and its prompts, in a thread of its own while the current step trains."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from ragtune.knowledge.retrieved import Retrieved
from ragtune.training.retrieval.search import Queries, Search, search_at_once

_ARRAYS = ("rows", "scores", "embeddings")

T = TypeVar("T")


class SearchAhead(Generic[T]):
    """At most one step's search at a time, and what is built of its answers, a T.

    The thread encodes nothing: it is given vectors. Nobody else may use `search`, or the tokenizers that something is
    built with, meanwhile; whoever wants to calls `wait` first. Over several processes all start, wait and take in the
    same order.
    """

    def __init__(self, search: Search):
        """Set up; no thread is started yet."""
        self.search = search
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="search")
        self._found: Future[list[Retrieved]] | None = None
        self._built: Future[T] | None = None

    def start(self, queries: Sequence[Queries], k: int, build: Callable[[list[Retrieved]], T] | None = None) -> None:
        """Begin to search for the next step's batches, (B_i, d) each, and then to build something of the answers."""
        found = self._found = self._thread.submit(search_at_once, self.search, queries, k)
        self._built = self._thread.submit(lambda: build(found.result())) if build else None

    def take(self) -> list[Retrieved] | None:
        """Take the found passages, one answer per batch; None if nothing was asked.

        Raises:
            Exception: what the search raised.
        """
        found, self._found = self._found, None
        return found.result() if found else None

    def take_built(self) -> T | None:
        """Take the inputs built of the answers that were taken last; None if none were to be built.

        Raises:
            Exception: what building raised.
        """
        built, self._built = self._built, None
        return built.result() if built else None

    def wait(self) -> None:
        """Come back when the thread rests; what it found and built, or raised, is for `take` and `take_built`."""
        for future in (self._found, self._built):
            if future is not None:
                future.exception()

    def check(self) -> None:
        """Wait, and raise what the thread raised, which would else look like a failure to save."""
        for future in (self._found, self._built):
            if future is not None:
                future.result()

    def forget(self) -> None:
        """Wait, and drop what was found and built."""
        self.wait()
        self._found = self._built = None

    def save(self, folder: Path, process: int) -> None:
        """Leave in a checkpoint what was found for this process, if anything was asked.

        The passages, not what was asked: the knowledge base may be another one when the checkpoint is resumed.
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
