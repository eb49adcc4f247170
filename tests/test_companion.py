"""A process beside this one: what it announces, what it raises, and its end."""

import os
import sys
import time

import pytest

from ragtune.companion import companion
from ragtune.errors import RagtuneError, TrainingError

MODULE = """
import os, sys
from ragtune.companion import announce, announced_errors, wait_for_end
from ragtune.errors import TrainingError

with announced_errors():
    print("noise")
    if sys.argv[1] == "refuse":
        raise TrainingError("the memory is full; free some")
    if sys.argv[1] == "die":
        os._exit(7)
announce({"pid": os.getpid(), "given": sys.argv[1:]})
wait_for_end()
open(sys.argv[2], "w").write("ended by itself")
"""


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    (tmp_path / "a_companion_of_tests.py").write_text(MODULE)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])


def test_it_serves_as_long_as_the_block_lasts_and_then_ends_by_itself(tmp_path):
    with companion("a_companion_of_tests", "serve", str(tmp_path / "end")) as announced:
        assert announced["given"] == ["serve", str(tmp_path / "end")]
        os.kill(announced["pid"], 0)  # it is alive
        assert not (tmp_path / "end").exists()
    assert (tmp_path / "end").read_text() == "ended by itself"
    with pytest.raises(ProcessLookupError):
        os.kill(announced["pid"], 0)


def test_an_error_in_the_block_ends_it_too(tmp_path):
    with pytest.raises(ValueError, match="mine"), companion("a_companion_of_tests", "serve", str(tmp_path / "end")):
        raise ValueError("mine")
    assert (tmp_path / "end").exists()


def test_its_error_is_raised_here_by_type_and_message():
    with (
        pytest.raises(TrainingError, match=r"^the memory is full; free some$"),
        companion("a_companion_of_tests", "refuse"),
    ):
        pass


def test_an_end_without_a_word_is_told_with_its_status():
    started = time.monotonic()
    told = "a_companion_of_tests ended with status 7 before it served"
    with pytest.raises(RagtuneError, match=told), companion("a_companion_of_tests", "die"):
        pass
    assert time.monotonic() - started < 15
