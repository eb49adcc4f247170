"""A service of the first process; among several processes it is tested in test_gather.py and test_processes.py."""

from contextlib import contextmanager

import pytest

from ragtune.training.distributed.rank_zero import of_first_process


@pytest.fixture
def service():
    events = []

    @contextmanager
    def service():
        events.append("begins")
        try:
            yield "its address"
        finally:
            events.append("ends")

    return service(), events


def test_the_first_process_runs_it_as_long_as_the_block_lasts(service):
    context, events = service
    with of_first_process(0, context) as announced:
        assert announced == "its address" and events == ["begins"]
    assert events == ["begins", "ends"]


def test_another_process_runs_none(service):
    context, events = service
    with of_first_process(1, context):
        pass
    assert events == []


def test_an_error_in_the_block_ends_it(service):
    context, events = service
    with pytest.raises(ValueError, match="mine"), of_first_process(0, context):
        raise ValueError("mine")
    assert events == ["begins", "ends"]
