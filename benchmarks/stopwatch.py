"""The time of a training step, split into its parts."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from statistics import median
from typing import Any

import torch
from transformers import TrainerCallback


class Stopwatch:
    """Seconds by name; what is timed inside of something else counts for itself alone.

    On a GPU the device is waited for at both ends of whatever is timed, which costs some speed.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.seconds: Counter[str] = Counter()
        self._inside: list[float] = []

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        start = self._now()
        self._inside.append(0.0)
        try:
            yield
        finally:
            passed = self._now() - start
            self.seconds[name] += passed - self._inside.pop()
            if self._inside:
                self._inside[-1] += passed

    def watch(self, owner: Any, method: str, name: str) -> None:
        """Time every call of a method of an object."""
        called = getattr(owner, method)

        def timed(*args: Any, **options: Any) -> Any:
            with self.span(name):
                return called(*args, **options)

        setattr(owner, method, timed)

    def watch_optimizer(self, trainer: Any, name: str) -> None:
        """Time clipping and updating, by the trainer's own optimizer."""
        self.watch(trainer, "_clip_grad_norm", name)
        create = trainer.create_optimizer

        def watched(*args: Any, **options: Any) -> Any:
            optimizer = create(*args, **options)
            self.watch(optimizer, "step", name)
            return optimizer

        trainer.create_optimizer = watched

    def _now(self) -> float:
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


class StepTimes(TrainerCallback):
    """Seconds of every step after the first few: by the clock, and of processor time, which others disturb less."""

    def __init__(self, warm_up: int, device: str, reset: Callable[[], None]) -> None:
        self.warm_up, self.device, self.reset = warm_up, device, reset
        self.ends: list[float] = []
        self.processor: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.warm_up:
            self.reset()
        if state.global_step >= self.warm_up:
            if self.device == "cuda":
                torch.cuda.synchronize()
            self.ends.append(time.perf_counter())
            self.processor.append(time.process_time())

    @property
    def total(self) -> float:
        return self.ends[-1] - self.ends[0]

    @property
    def steps(self) -> int:
        return len(self.ends) - 1

    @property
    def median(self) -> float:
        return _median_step(self.ends)

    @property
    def median_of_processor(self) -> float:
        return _median_step(self.processor)


def _median_step(ends: list[float]) -> float:
    return median(end - start for start, end in pairwise(ends))
