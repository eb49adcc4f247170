"""The inputs of a step's batches, with and without a step that follows."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from exact_search import ExactSearch

from ragtune.knowledge.passages import Passage
from ragtune.training.retrieval.prefetch import SearchAhead
from ragtune.training.retrieval.steps import StepInputs
from ragtune.training.telemetry.monitor import Window

PASSAGES = [Passage(f"p{n}", "", f"text {n}", (f"p{n}",)) for n in range(4)]
TOKENS = SimpleNamespace(prompts=SimpleNamespace(passages=PASSAGES))
ARGS = SimpleNamespace(n_docs=2, device=torch.device("cpu"))


class Rows:
    """A method whose inputs are the rows that were found, or the questions' numbers without a search."""

    def __init__(self, needs_search):
        self.needs_search = needs_search

    def n_retrieved(self, n_docs):
        return n_docs + 1

    def inputs(self, batch, found, tokens):
        rows = found.rows if found is not None else np.array(batch["question"])
        return {"rows": torch.from_numpy(rows)}


def batches():
    """Of two questions each; question n is passage n % 4."""
    number = 0
    while True:
        yield {"question": [number, number + 1], "gold_ids": [[f"p{n % 4}"] for n in (number, number + 1)]}
        number += 2


def queries(given):
    return [np.eye(4, dtype=np.float32)[[n % 4 for n in batch["question"]]] for batch in given]


@pytest.fixture
def search():
    return ExactSearch(np.eye(4, dtype=np.float32))


def make(search, ahead=None, needs_search=True):
    return StepInputs(Rows(needs_search), TOKENS, search, ahead, queries, ARGS)


def first_rows(inputs):
    return [part["rows"][:, 0].tolist() for part in inputs]


def test_all_batches_of_a_step_share_one_search_for_as_many_passages_as_the_method_wants(search):
    window = Window()
    inputs = make(search).take(batches(), 3, True, window)
    assert first_rows(inputs) == [[0, 1], [2, 3], [0, 1]]
    assert all(part["rows"].shape == (2, 3) for part in inputs)
    assert search.calls == 1 and window.questions == 6 and window.search_seconds > 0


def test_without_a_search_the_questions_are_counted_all_the_same(search):
    window = Window()
    inputs = make(search, needs_search=False).take(batches(), 2, True, window)
    assert [part["rows"].tolist() for part in inputs] == [[0, 1], [2, 3]]
    assert search.calls == 0 and window.questions == 4


def test_the_next_steps_passages_are_searched_for_ahead_unless_no_step_follows(search):
    steps, stream = make(search, SearchAhead(search)), batches()
    assert first_rows(steps.take(stream, 1, True, Window())) == [[0, 1]]
    steps.ahead.wait()
    assert search.calls == 2
    assert first_rows(steps.take(stream, 1, False, Window())) == [[2, 3]]
    assert search.calls == 2
    assert first_rows(steps.take(stream, 1, False, Window())) == [[0, 1]]  # of questions 4 and 5
    assert search.calls == 3


def test_what_was_begun_for_a_step_that_does_not_come_is_forgotten(search):
    steps = make(search, SearchAhead(search))
    steps.take(batches(), 1, True, Window())
    steps.forget()
    assert first_rows(steps.take(batches(), 1, False, Window())) == [[0, 1]]  # the new stream's first
