"""Progress of a run, its speed and the time left: one line on stderr per entry of the log."""

import time
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ragtune.progress import say

_SHOWN = {
    "samples_per_second": "{:.1f} questions/s",
    "tokens_per_second": "{:,.0f} tokens/s",
    "mfu": "MFU {:.0%}",
    "eval_samples_per_second": "{:.1f} questions/s",
    "loss": "loss {:.4f}",
    "eval_em": "EM {:.3f}",
    "eval_loss": "loss {:.4f}",
    "entropy": "entropy {:.2f}",
    "search_fraction": "search {:.0%}",
    "staleness": "knowledge base {:.0f} steps old",
}


class ProgressLines(TrainerCallback):
    """Prints the log as lines, in the first process alone, and has the last step logged whatever `logging_steps` is."""

    def __init__(self) -> None:
        self.start_step, self.start = 0, time.monotonic()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.start_step, self.start = state.global_step, time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        control.should_log = control.should_log or state.global_step == state.max_steps

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if not state.is_world_process_zero or not logs or not ("loss" in logs or "eval_loss" in logs):
            return
        shown = [form.format(logs[name]) for name, form in _SHOWN.items() if name in logs]
        shown += [f"{name.split('_')[-1]} {value:.3f}" for name, value in logs.items() if "recall@" in name]
        done = state.global_step - self.start_step
        if "loss" in logs and done:
            left = (time.monotonic() - self.start) / done * (state.max_steps - state.global_step)
            shown.append(f"{left:.0f} s to go")
        what = "training" if "loss" in logs else "validation"
        say(f"{what}: {state.global_step} of {state.max_steps} steps, {', '.join(shown)}")
