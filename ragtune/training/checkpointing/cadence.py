"""The times of a training's checkpoints where `save_steps` does not say them."""

import time
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ragtune.training.checkpointing.stopping import AnyProcess

SAVE_SECONDS = 900.0  # between two checkpoints


class Cadence(TrainerCallback):
    """Has a checkpoint written after every quarter of an hour where `save_steps` is 0.

    By the clock rather than by steps: a checkpoint of DPR and BART-large is 6 GB, for which 100 steps of a GPU are far
    too short a time, and 100 steps of a CPU far too much to lose. Trainer itself writes one at the last step.

    Attributes:
        seconds: from one checkpoint to the next.
    """

    def __init__(self, any_process: AnyProcess, seconds: float = SAVE_SECONDS):
        """Set up with what lets the processes agree on the step."""
        self.seconds = seconds
        self._any_process = any_process
        self._last = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock."""
        self._last = time.monotonic()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Start it anew."""
        self._last = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Trainer writes a checkpoint where `should_save` is set."""
        if args.save_strategy == "steps" and not args.save_steps:
            control.should_save |= self._any_process(time.monotonic() - self._last >= self.seconds)
