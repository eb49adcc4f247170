"""A step's inputs: one search for all its batches, and prompts, built while the step before trains."""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from torch import Tensor

from ragtune.knowledge.retrieved import Retrieved
from ragtune.models.rag import check_rows
from ragtune.training.arguments import RagTrainingArguments
from ragtune.training.methods.base import InputTokens, Method
from ragtune.training.retrieval.prefetch import SearchAhead
from ragtune.training.retrieval.search import Queries, Search, search_at_once
from ragtune.training.telemetry.monitor import Window

Batch = dict[str, Any]
Inputs = dict[str, Tensor]


class StepInputs:
    """Gives each step the inputs of its batches, and builds the next step's in another thread in the background.

    Attributes:
        search: finds passages; None where there is none.
        ahead: its thread; None where each step waits for its own search.
    """

    def __init__(
        self,
        method: Method,
        tokens: InputTokens,
        search: Search | None,
        ahead: SearchAhead[list[Inputs]] | None,
        queries: Callable[[Sequence[Batch]], list[Queries]],
        args: RagTrainingArguments,
    ):
        """Set up; nothing is asked yet.

        Args:
            method: makes a batch's inputs.
            tokens: of prompts and passages.
            search, ahead: see above.
            queries: makes vectors of batches' questions, (B_i, d) each, with the live question encoder.
            args: of the run. Where it computes on a GPU, inputs lie in pinned memory, from which they are taken without
                the host waiting.
        """
        self.search = search if method.needs_search else None
        self.ahead = ahead
        self._method, self._tokens, self._queries = method, tokens, queries
        self._k, self._pins = method.n_retrieved(args.n_docs), args.device.type == "cuda"
        self._next: list[Batch] = []

    def take(self, batches: Iterator[Batch], count: int, follows: bool, window: Window) -> list[Inputs]:
        """The inputs of a step's batches, on the CPU.

        Args:
            batches: of the epoch.
            count: a step's.
            follows: another step comes after this one.
            window: counts what was found, and how long the wait for it was.
        """
        now, self._next = self._next or list(islice(batches, count)), []
        inputs = self._inputs(now, self._retrieve(now, window))
        if self.ahead is not None and follows:
            self._next = list(islice(batches, count))
            self._begin(self.ahead, self._next, window)
        return inputs

    def forget(self) -> None:
        """Drop what was begun for a step that does not come."""
        self._next = []
        if self.ahead is not None:
            self.ahead.forget()

    def _retrieve(self, batches: Sequence[Batch], window: Window) -> list[Retrieved | None]:
        if self.search is None:
            window.questions += sum(len(batch["question"]) for batch in batches)
            return [None] * len(batches)
        start = time.perf_counter()
        found = self.ahead.take() if self.ahead is not None else None
        if found is None:
            found = search_at_once(self.search, self._queries(batches), self._k)
        window.search_seconds += time.perf_counter() - start
        for batch, part in zip(batches, found, strict=True):
            window.add_retrieved(part.rows, batch["gold_ids"], self._tokens.prompts.passages)
        return list(found)

    def _inputs(self, batches: Sequence[Batch], found: Sequence[Retrieved | None]) -> list[Inputs]:
        built = self.ahead.take_built() if self.ahead is not None else None
        return self._build(batches, found) if built is None else built

    def _begin(self, ahead: SearchAhead[list[Inputs]], batches: Sequence[Batch], window: Window) -> None:
        start = time.perf_counter()
        if batches:
            ahead.start(self._queries(batches), self._k, lambda found: self._build(batches, found))
        window.search_seconds += time.perf_counter() - start

    def _build(self, batches: Sequence[Batch], found: Sequence[Retrieved | None]) -> list[Inputs]:
        pairs = zip(batches, found, strict=True)
        made = [self._method.inputs(batch, part, self._tokens) for batch, part in pairs]
        for inputs in made:
            if "labels" in inputs:
                check_rows(inputs["labels"], inputs.get("doc_mask"))
        if self._pins:
            return [{name: value.pin_memory() for name, value in inputs.items()} for inputs in made]
        return made
