import os
import signal

import pytest

from ragtune.errors import ModelError, TrainingError
from ragtune.federation.own_process import in_own_process


def doubled(number):
    return {"doubled": 2 * number, "process": os.getpid()}


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def exits():
    os._exit(3)


def refuses():
    raise ModelError("no such model; give another")


def fails():
    raise ValueError("odd")


def test_a_call_in_another_process_returns():
    returned = in_own_process(doubled, 21)
    assert returned["doubled"] == 42 and returned["process"] != os.getpid()


def test_a_process_that_dies_is_an_error_of_the_caller():
    with pytest.raises(TrainingError, match="its process was ended by SIGKILL; too little memory"):
        in_own_process(killed)
    with pytest.raises(TrainingError, match="its process ended with status 3"):
        in_own_process(exits)


def test_what_is_raised_there_is_raised_here():
    with pytest.raises(ModelError, match="no such model; give another"):
        in_own_process(refuses)
    with pytest.raises(TrainingError, match="ValueError: odd"):
        in_own_process(fails)
