"""The seam between a training run and the place where its processes run."""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

_KILLED = re.compile(r"Signal \d+ \(SIG(?!TERM)\w+\) received")  # torchrun itself sends SIGTERM to the others
_EXCEPTION = re.compile(r"^(?:\[rank\d+\]: *)?[\w.]+(?:Error|Exception|Interrupt): ")


class Launcher(ABC):
    """Starts the processes of one run, and waits for them.

    Arguments and outcome travel as files in the run's work folder, by `ragtune.training.launch`: a launcher starts
    `python -m ragtune.training ARGUMENTS_FILE` in every process, with torchrun's environment variables where there are
    several, and passes on what they print.
    """

    @abstractmethod
    def run(self, arguments_file: Path, processes: int) -> None:
        """Start a run, and return once all its processes have ended well; none is left running, however this ends.

        Args:
            arguments_file: absolute; every process must see its folder, under the same path, and may write there.
            processes: how many; 0 means one per GPU.

        Raises:
            TrainingError: they ended otherwise, by `last_reason`; told only where the run has left no error of its own.
        """


def last_reason(tail: Sequence[str]) -> str:
    """Why a process ended, from its last lines: torchrun's on a killed one, else the last exception, else the last."""
    for pattern in (_KILLED, _EXCEPTION, re.compile(r"\S")):
        for line in reversed(tail):
            if pattern.search(line):
                return line.strip()
    return "it said nothing"
