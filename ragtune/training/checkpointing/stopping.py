"""Stops of a training: SIGTERM, after which a restart resumes it, and early stopping, which ends it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class AnyProcess:
    """Agreement between the processes of a run; all of them must set it up, and call it equally often."""

    def __init__(self, several: bool):
        """`several` where the run has more than one process."""
        self._group = dist.new_group(backend="gloo") if several else None

    def __call__(self, holds: bool) -> bool:
        """Return True in all of them if `holds` is True in one."""
        if self._group is None:
            return holds
        anyone = torch.tensor(int(holds))
        dist.all_reduce(anyone, op=dist.ReduceOp.MAX, group=self._group)
        return bool(anyone)


class Terminated(Exception):  # noqa: N818 (nothing went wrong)
    """SIGTERM has come during a validation."""


class Termination(TrainerCallback):
    """Ends a training that is sent SIGTERM, with a checkpoint, in all its processes at once.

    That is at the end of a step, or in the middle of a validation, which may take longer than the time that is left.
    Outside `watched`, when nothing is lost by it, SIGTERM ends the process as usual.

    Attributes:
        asked: SIGTERM has come, to this process or to another one of the run.
    """

    def __init__(self, any_process: AnyProcess):
        """Set up; `any_process` lets the processes agree on the step."""
        self.asked = False
        self._any_process = any_process

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Inside the block a first SIGTERM is only noted, for `heard`. Signals reach main threads alone."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.getsignal(signal.SIGTERM)

        def ask(number: int, frame: FrameType | None) -> None:
            self.asked = True
            signal.signal(signal.SIGTERM, before)

        signal.signal(signal.SIGTERM, ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def heard(self) -> bool:
        """True if SIGTERM has come to a process of the run; every process must call it."""
        heard = self._any_process(self.asked)  # while they ask each other, a signal may set `asked` for the next call
        self.asked |= heard
        return heard

    def check(self) -> None:
        """Between two batches of a validation; every process must call it.

        Raises:
            Terminated: SIGTERM has come.
        """
        if self.heard():
            raise Terminated

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Have Trainer write a checkpoint and stop."""
        if self.heard() and state.global_step < state.max_steps:
            control.should_save = args.save_strategy != "no"
            control.should_training_stop = True

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """No validation inside an epoch, which a run that is not ended there lacks."""
        if self.asked and state.global_step < state.max_steps and not epoch_is_over(state):
            control.should_evaluate = False


def epoch_is_over(state: TrainerState) -> bool:
    """Tell whether a step was the last one of its epoch."""
    return state.epoch is not None and float(state.epoch).is_integer()


def stopped_early(state: TrainerState, patience: int) -> bool:
    """Tell whether `patience` evaluations in a row have brought no better step; 0 never gives up."""
    evaluated = [entry["step"] for entry in state.log_history if "eval_loss" in entry]
    best = state.best_global_step or 0
    return 0 < patience <= sum(step > best for step in evaluated)
