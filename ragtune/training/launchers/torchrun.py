"""A run's processes on this machine: one, or several by torchrun."""

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from joblib import cpu_count

from ragtune.errors import TrainingError
from ragtune.training.launchers.base import Launcher, last_reason

ENDS_WITH_STARTER = "RAGTUNE_ENDS_WITH_STARTER"  # environment variable: the run ends when its standard input does
_TAIL_LINES = 100


@dataclass(frozen=True)
class Torchrun(Launcher):
    """Processes on this machine, which end when the one that started them does, however that happens.

    Attributes:
        environment: of the processes, beside this one's own.
    """

    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, arguments_file: Path, processes: int) -> None:
        """As `Launcher.run`; what the processes print goes to stderr."""
        from torch.cuda import device_count

        count = processes or max(1, device_count())
        status, tail = _stream(_command(count, str(arguments_file)), _environment(count) | dict(self.environment))
        if status != 0:
            raise _failure(status, tail)


def _command(processes: int, arguments_file: str) -> list[str]:
    if processes == 1:
        return [sys.executable, "-m", "ragtune.training", arguments_file]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return [*torchrun, "-m", "ragtune.training", arguments_file]


def _environment(processes: int) -> dict[str, str]:
    threads = str(max(1, cpu_count() // processes))
    ours = {"PYTHONUNBUFFERED": "1", ENDS_WITH_STARTER: "1"}
    tokenizers = {"TOKENIZERS_PARALLELISM": "true", "RAYON_NUM_THREADS": threads}
    return {"OMP_NUM_THREADS": threads} | tokenizers | os.environ | ours


def _stream(command: Sequence[str], environment: dict[str, str]) -> tuple[int, list[str]]:
    """Run a command with its output on our stderr; its status, and its last lines.

    Its standard input is a pipe that nothing is written to: it ends when this process does, however that happens, and
    tells the run's processes to end too, so that none is left holding the knowledge base.
    """
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        try:
            for line in process.stdout or ():
                tail.append(line.rstrip())
                print(line, end="", file=sys.stderr, flush=True)
        except BaseException:
            process.terminate()
            raise
    return process.returncode, list(tail)


def _failure(status: int, tail: Sequence[str]) -> TrainingError:
    how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    reason = last_reason(tail)
    hint = "; too little memory? lower batch_size or n_docs" if "SIGKILL" in how + reason else ""
    then = "the same call resumes from its last checkpoint, if it has written one"
    return TrainingError(f"the run {how} ({reason}){hint}; {then}")
