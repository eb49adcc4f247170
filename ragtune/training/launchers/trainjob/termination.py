"""SIGTERM to a step that only watches a job: raised as an exception, so that the job can be ended."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_OF_SHELLS = 128  # a shell's status for a command that a signal ended is this and the signal's number


@contextmanager
def sigterm_as_exit() -> Iterator[None]:
    """Raise SystemExit at the first SIGTERM inside the block; further ones are passed over. For the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise SystemExit(_OF_SHELLS + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
