"""A run's log as a curve, one entry a step that was logged or evaluated, and as a few figures."""

from collections.abc import Iterable, Mapping
from typing import Any

from transformers import TrainerState

from ragtune.training.telemetry.monitor import Clock

_NAMES = {"eval_loss": "validation_loss"}  # `loss` is the training's
_LEFT_OUT = {"epoch", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second"}


def curve(history: Iterable[Mapping[str, Any]]) -> list[dict[str, float]]:
    """The logged values by step.

    Args:
        history: `TrainerState.log_history`.

    Returns:
        Entries with `step`; where a step was logged, loss, learning_rate, grad_norm, entropy, distinct_passages,
        train_recall@k, samples_per_second, tokens_per_second, on a GPU mfu, search_fraction, for rag-end2end staleness;
        where it was evaluated, em, validation_loss, recall@k.

    Example: [{"step": 2, "loss": 1.5}, {"step": 2, "eval_em": 0.1, "eval_loss": 1.7}] gives
    [{"step": 2, "loss": 1.5, "em": 0.1, "validation_loss": 1.7}].
    """
    by_step: dict[int, dict[str, float]] = {}
    for entry in history:
        if "loss" in entry or "eval_loss" in entry:
            point = by_step.setdefault(entry["step"], {"step": entry["step"]})
            for name, value in entry.items():
                if name not in _LEFT_OUT:
                    point[_NAMES.get(name, name.removeprefix("eval_"))] = value
    return [by_step[step] for step in sorted(by_step)]


def results(state: TrainerState, clock: Clock, metric: str, keeps_best: bool = True) -> dict[str, float]:
    """A run in a few figures.

    Args:
        state: at the end of the run.
        clock: the run's totals.
        metric: the one that the best step was chosen by: em, loss or recall@k.
        keeps_best: the model has the weights of the best step rather than of the last.

    Returns:
        train_loss, of the last line of the log; steps; seconds of training without evaluations and checkpoints;
        samples_per_second; where there is a generator, its tokens_per_second; where there is a search, search_fraction
        of these seconds; where it was evaluated, best_step and on the validation questions best_em, best_loss and
        best_<metric>; without `keeps_best` last_step, last_em and so on, which are those of the model.
    """
    losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
    figures = {"steps": state.global_step, "seconds": clock.seconds, **clock.figures()}
    if losses:
        figures["train_loss"] = losses[-1]
    for entry in state.log_history:
        if "eval_loss" in entry and entry["step"] == _kept_step(state, keeps_best):
            kept = "best" if keeps_best else "last"
            figures[f"{kept}_step"] = entry["step"]
            names = dict.fromkeys(("em", "loss", metric))
            figures |= {f"{kept}_{name}": entry[f"eval_{name}"] for name in names if f"eval_{name}" in entry}
    return figures


def improved(state: TrainerState, metric: str, keeps_best: bool = True) -> bool:
    """Tell whether the kept step did better than the base model by `metric`; True where one of the two is unknown."""
    by_step = {entry["step"]: entry for entry in state.log_history if "eval_loss" in entry}
    before, kept = by_step.get(0), by_step.get(_kept_step(state, keeps_best))
    if before is None or kept is None:
        return True
    if metric == "loss":
        return kept["eval_loss"] < before["eval_loss"]
    name = f"eval_{metric}"
    return (kept[name], -kept["eval_loss"]) > (before[name], -before["eval_loss"])


def _kept_step(state: TrainerState, keeps_best: bool) -> int:
    return (state.best_global_step or 0) if keeps_best else state.global_step
