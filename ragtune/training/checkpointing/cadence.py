"""The times of a training's checkpoints."""

import time
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ragtune.training.checkpointing.stopping import AnyProcess, epoch_is_over

SAVE_SECONDS = 900.0  # between two checkpoints


class Cadence(TrainerCallback):
    """Has a checkpoint written after every quarter of an hour where `save_steps` is 0.

    By the clock rather than by steps: a checkpoint of DPR and BART-large is 6 GB, for which 100 steps of a GPU are far
    too short a time, and 100 steps of a CPU far too much to lose. Trainer itself writes one at the last step.

    The checkpoint of an epoch's last step waits for the epoch's validation, which a run that resumes it would lack.

    Attributes:
        seconds: from one checkpoint to the next.
    """

    def __init__(self, any_process: AnyProcess, seconds: float = SAVE_SECONDS):
        """Set up; `any_process` lets the processes agree on the step."""
        self.seconds = seconds
        self._any_process = any_process
        self._last = 0.0
        self._waits = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock."""
        self._last = time.monotonic()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Restart it."""
        self._last = time.monotonic()
        self._waits = False

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Trainer writes a checkpoint where `should_save` is set."""
        if args.save_strategy == "steps" and not args.save_steps:
            control.should_save |= self._any_process(time.monotonic() - self._last >= self.seconds)
        if control.should_training_stop or epoch_is_over(state):
            self._waits, control.should_save = control.should_save, False

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Have the checkpoint written that waits."""
        control.should_save |= self._waits
