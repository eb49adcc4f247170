"""Losses and gradients that are no numbers any more end a run, before they reach the weights."""

import math

import torch
from torch import Tensor

from ragtune.errors import TrainingError
from ragtune.training.arguments import RagTrainingArguments


class Divergence:
    """Watches the losses of a step's batches on their device, which is waited for once a step."""

    def __init__(self, args: RagTrainingArguments):
        """Set up for a run; its parameters stand in the error."""
        self.args = args
        self._losses: list[Tensor] = []

    def add(self, loss: Tensor) -> None:
        """Keep a batch's loss for the step's end."""
        self._losses.append(loss.detach())

    def check_step(self, step: int, norm: float | Tensor | None) -> None:
        """End a step.

        Args:
            step: its number, from 1.
            norm: of the gradient; None where it is not to be looked at.

        Raises:
            TrainingError: a loss, or the norm, is not finite.
        """
        losses, self._losses = torch.stack(self._losses).tolist(), []
        for loss in losses:
            self.check(step, "the loss", loss)
        if norm is not None:
            self.check(step, "the gradient's norm", float(norm))

    def check(self, step: int, name: str, value: float) -> None:
        """Raise a TrainingError where a value is not finite."""
        if not math.isfinite(value):
            raise TrainingError(
                f"step {step}: {name} is {value}; lower learning_rate (now {self.args.learning_rate:g}) or "
                "max_grad_norm, lengthen warmup_steps, or train with precision=fp32"
            )
