import pytest

from ragtune.training.launchers.base import Launcher, last_reason

KILLED = "Signal 9 (SIGKILL) received by PID 7"


@pytest.mark.parametrize(
    ("tail", "reason"),
    [
        (["ValueError: first", KILLED, "Signal 15 (SIGTERM) received by PID 8", "the end"], KILLED),
        (["  File x", "[rank1]: torch.OutOfMemoryError: full", "KeyError: later", "done"], "KeyError: later"),
        (["[rank1]: torch.OutOfMemoryError: full", "done"], "[rank1]: torch.OutOfMemoryError: full"),
        (["one", "  two ", ""], "two"),
        ([], "it said nothing"),
    ],
)
def test_the_reason_is_the_signal_then_the_last_exception_then_the_last_line(tail, reason):
    assert last_reason(tail) == reason


def test_a_launcher_must_say_how_it_runs():
    with pytest.raises(TypeError, match="abstract"):
        Launcher()
