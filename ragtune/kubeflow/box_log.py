"""The output of kfp.local while a pipeline runs: all of it into a log, one line per box to the terminal."""

import io
import re
import signal
import time
from collections.abc import Callable, Mapping
from typing import TextIO

from ragtune.progress import PROGRESS_LINE
from ragtune.uris import shown

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_STARTED = re.compile(r"Executing task '([\w-]+)'")
_ENDED = re.compile(r"The box ended with status (-?\d+)")
_FINISHED = re.compile(r"Task '([\w-]+)' finished with status (SUCCESS|FAILURE)")
_TRACEBACK = re.compile(r"( *)Traceback \(most recent call last\):$")
_EXCEPTION = re.compile(r"((?:[\w<>]+\.)*)(\w+)(?:: (.*))?$")
_OUR_ERRORS = "ragtune.errors."  # they say all that is to be said; of another exception, its type tells more
_SHOWN_COUNTS = 4
_SHELL_SIGNALS = 128  # a shell's status for a command that a signal ended is this and the signal's number


def ended_with(status: int) -> str:
    """The line that tells `BoxLog` the status of a box's process, which kfp.local keeps to itself."""
    return f"The box ended with status {status}"


def last_exception(log: str) -> str:
    """The exception of the last traceback in a log, "" where there is none."""
    tracebacks = _Tracebacks()
    for line in log.splitlines():
        tracebacks.read(_COLOUR.sub("", line).rstrip())
    return tracebacks.exception


class _Tracebacks:
    """Reads a log line by line; `exception` is what ended the last traceback."""

    def __init__(self) -> None:
        self.exception, self._indent = "", -1

    def read(self, line: str) -> bool:
        """Take one line, and tell whether it is part of a traceback.

        Frames are indented deeper than the line that opens a traceback; its exception is as deep.
        """
        if match := _TRACEBACK.match(line):
            self._indent = len(match[1])
        elif self._indent < 0:
            return False
        elif match := _EXCEPTION.match(text := line[self._indent :]):
            module, _, message = match.groups()
            self.exception = message if message and module == _OUR_ERRORS else text
            self._indent = -1
        return True


class BoxLog(io.TextIOBase):
    """The standard output of kfp.local while a pipeline runs.

    Attributes:
        seconds: how long each finished box took, by name.
        failed: the box that failed, "" if none did.
        failure: the exception or the signal that ended it; never one that a box survived.
    """

    def __init__(self, log: TextIO, terminal: TextIO, boxes: int, counts_of: Callable[[str], Mapping[str, float]]):
        """Args:
        log: where every line goes.
        terminal: where the progress goes.
        boxes: how many boxes the pipeline has.
        counts_of: the metrics of a finished box, by its name, for its line.
        """
        self.seconds: dict[str, float] = {}
        self.failed = self.failure = ""
        self._log, self._terminal, self._boxes, self._counts_of = log, terminal, boxes, counts_of
        self._rest, self._box, self._started, self._status = "", "", 0.0, 0
        self._tracebacks = _Tracebacks()
        self._live = terminal.isatty()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._log.write(shown(text))
        self._log.flush()
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._read(_COLOUR.sub("", line).rstrip())
        return len(text)

    def _read(self, line: str) -> None:
        if match := _STARTED.search(line):
            self._box, self._started = match[1].replace("-", "_"), time.monotonic()
            self._tracebacks, self._status = _Tracebacks(), 0
            self._show(f"{self._heading()} …", passing=True)
        elif match := _ENDED.search(line):
            self._status = int(match[1])
        elif match := _FINISHED.search(line):
            took = self.seconds[self._box] = time.monotonic() - self._started
            failed = match[2] == "FAILURE"
            if failed and not self.failed:  # boxes that do not need it, and the exit handler, go on
                self.failed, self.failure = self._box, self._reason()
            self._show(f"{self._heading()} {took:7.1f} s   {'failed' if failed else self._counts()}")
        elif not self._tracebacks.read(line) and (match := PROGRESS_LINE.search(line)):
            self._show(f"      {match[0]}", passing=True)

    def _reason(self) -> str:
        """A signal leaves no traceback: one that stands in the log then is of something that the box survived."""
        number = -self._status if self._status < 0 else self._status - _SHELL_SIGNALS
        if number > 0:
            name = next((known.name for known in signal.Signals if known == number), f"signal {number}")
            hint = "; most often the memory ran out" if number == signal.SIGKILL else ""
            return f"was ended by {name}{hint}"
        return self._tracebacks.exception or f"ended with status {self._status} and no exception"

    def _heading(self) -> str:
        number = min(len(self.seconds) + (self._box not in self.seconds), self._boxes)
        return f"[{number}/{self._boxes}] {self._box:<20}"

    def _counts(self) -> str:
        counts = {name: count for name, count in self._counts_of(self._box).items() if count}
        return ", ".join(f"{name} {count:,.4g}" for name, count in list(counts.items())[:_SHOWN_COUNTS])

    def _show(self, line: str, passing: bool = False) -> None:
        if self._live:
            self._terminal.write(f"\r\x1b[K{line}" + ("" if passing else "\n"))
        elif not line.endswith("…"):
            self._terminal.write(line + "\n")
        self._terminal.flush()
