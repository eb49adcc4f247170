"""The plan of a federation, and its rounds on the server's disk: one folder per round, whole or not at all.

A killed server resumes behind the last of them: `round-3` has the averaged weights of round 3, the strategy's own state
and the history of all rounds up to it. Only the last round's folder and the best one's are kept.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ragtune.errors import TrainingError
from ragtune.federation.weights import Weights
from ragtune.files import atomic_file, atomic_path, remove_folder
from ragtune.training.methods.federated import FederatedOptions

HISTORY = "history.json"
_WEIGHTS, _STRATEGY, _PLAN = "weights.safetensors", "strategy.safetensors", "plan.json"
_ROUND = re.compile(r"round-(\d+)")
Entry = dict[str, Any]
"""A round's line of the history: round; sites, the metrics of each by name; failed, the errors of others by name;
metrics, the means over the sites."""


@dataclass(frozen=True)
class Plan:
    """The plan of a federation.

    Attributes:
        options: of `method: federated`.
        shared: settings of training that all sites take over, see `ragtune.federation.local.shared_settings`.
        metric: of validation, chooses the best round.
        keeps_best: the model is that of the best round, not of the last.
        folder: of the rounds.
    """

    options: FederatedOptions
    shared: Mapping[str, Any]
    metric: str
    keeps_best: bool
    folder: Path


@dataclass
class Rounds:
    """The state of a federation after a round.

    Attributes:
        number: of the round, 0 before the first.
        weights: averaged.
        strategy: arrays of the strategy's own.
        history: an entry for each round, round 0 being the base model.
    """

    number: int
    weights: Weights
    strategy: Weights = field(default_factory=dict)
    history: list[Entry] = field(default_factory=list)


def write_round(folder: Path, rounds: Rounds, best: int) -> None:
    """Write a round, then drop those that are neither it nor the best.

    Raises:
        StorageError: the disk is full, or the folder may not be written.
    """
    with atomic_path(folder / f"round-{rounds.number}") as temporary:
        temporary.mkdir()
        save_file(rounds.weights, temporary / _WEIGHTS)
        save_file(rounds.strategy, temporary / _STRATEGY)
        (temporary / HISTORY).write_text(json.dumps(rounds.history, indent=1) + "\n", encoding="utf-8")
    for number, path in _found(folder).items():
        if number not in (rounds.number, best):
            remove_folder(path)


def last_round(folder: Path) -> Rounds | None:
    """The last whole round; None where there is none.

    Raises:
        TrainingError: its files are damaged.
    """
    found = _found(folder)
    if not found:
        return None
    number = max(found)
    try:
        history = json.loads((found[number] / HISTORY).read_text(encoding="utf-8"))
        return Rounds(number, load_file(found[number] / _WEIGHTS), load_file(found[number] / _STRATEGY), history)
    except (OSError, ValueError, SafetensorError) as error:
        before = f"resume behind round {min(found)}" if len(found) > 1 else "begin anew"
        raise TrainingError(
            f"{found[number]}: cannot be read as a round ({error}); remove this folder to {before}"
        ) from error


def weights_of_round(folder: Path, number: int) -> Weights:
    """The averaged weights of a round that is kept."""
    return load_file(folder / f"round-{number}" / _WEIGHTS)


def same_plan(folder: Path, plan: Mapping[str, Any], rounds: Rounds | None) -> None:
    """Write down what a federation does; refuse to continue one that does something else.

    Args:
        folder: of the rounds.
        plan: what makes its rounds what they are.
        rounds: those to continue; None where there are none, so that any plan will do.

    Raises:
        TrainingError: it was begun with another plan, or its file is damaged.
    """
    path, plan = folder / _PLAN, json.loads(json.dumps(plan))
    if rounds and path.is_file():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise TrainingError(f"{path}: cannot be read ({error}); remove {folder} to begin anew") from error
        if differing := sorted(name for name in plan.keys() | before.keys() if plan.get(name) != before.get(name)):
            raise TrainingError(
                f"{folder}: holds the rounds of a federation that differs in {', '.join(differing)}; give its own to "
                "continue it, or another folder to begin a new one"
            )
    with atomic_file(path) as stream:
        json.dump(plan, stream, indent=1)


def best_round(history: Sequence[Entry], metric: str) -> int:
    """The round whose model the sites' validation questions find best, of equal ones the one with the lower loss.

    Where no site has validation questions, the last one.
    """
    known = [entry for entry in history if math.isfinite(entry["metrics"].get(metric, math.nan))]
    if not known:
        return history[-1]["round"]
    sign = -1 if metric == "loss" else 1
    return max(known, key=lambda entry: (sign * entry["metrics"][metric], -entry["metrics"]["loss"]))["round"]


def _found(folder: Path) -> dict[int, Path]:
    folders = folder.iterdir() if folder.is_dir() else ()
    return {int(match[1]): path for path in folders if (match := _ROUND.fullmatch(path.name)) and path.is_dir()}
