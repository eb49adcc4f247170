"""The folder of a run: who holds it, what it was made with, and the checkpoints it takes over from another run."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ragtune.errors import TrainingError
from ragtune.files import atomic_file, atomic_path
from ragtune.locks import is_locked, locked
from ragtune.training.arguments import RagTrainingArguments
from ragtune.training.checkpointing import checkpoints
from ragtune.training.telemetry.progress_lines import say

INPUTS = "inputs.json"
_STAGE = "rag"  # whose checkpoints are taken over; the closed-book baseline is cheap
_AT_MOST = 5  # other runs that are told


def begin(work: Path, inputs: Mapping[str, Any], args: RagTrainingArguments) -> None:
    """Write down a run's inputs, and take over what `resume_from` names where it has no checkpoint of its own.

    Unfinished runs of the same data and base model that this run does not resume are listed in the log.

    Args:
        work: the run's folder, which the caller holds by `only_run`.
        inputs: from `ragtune.training.checkpointing.fingerprint.run_inputs`.
        args: `resume_from` and `max_steps` of it.

    Raises:
        TrainingError: there is nothing to resume in `resume_from`, or nothing that goes with this run.
    """
    inputs = json.loads(json.dumps(inputs, default=str))
    new = not (work / INPUTS).exists()
    with atomic_file(work / INPUTS) as stream:
        json.dump(inputs, stream, indent=1)
    if checkpoints.last_step(work / _STAGE) is not None or (work / "model").is_dir():
        return
    if args.resume_from:
        _take_over(_named(args.resume_from, work), work, inputs, args.max_steps)
    elif new:
        _tell_others(work, inputs)


def _named(source: str, work: Path) -> Path:
    inside = work.parent / source
    folder = inside if inside.is_dir() else Path(source)
    if checkpoints.last_step(folder / _STAGE) is None:
        raise TrainingError(
            f"resume_from={source}: there is no run with a checkpoint, neither in {work.parent} nor under that path"
        )
    return folder


def _take_over(source: Path, work: Path, inputs: Mapping[str, Any], max_steps: int) -> None:
    with only_run(source):
        last = checkpoints.last_step(source / _STAGE)
        assert last is not None
        others = _read(source)
        if others is not None and others["base_model"] != inputs["base_model"]:
            raise TrainingError(
                f"{source}: was trained from another base model; resume it with that one, or leave resume_from out"
            )
        if 0 < max_steps <= last:
            raise TrainingError(f"{source}: has trained {last} steps; raise max_steps above that to resume it")
        whole = checkpoints.checkpoint_folder(source / _STAGE, last)
        best = checkpoints.best_of(whole)
        wanted = [whole] if best is None else [whole, checkpoints.best_folder(source / _STAGE, best)]
        with atomic_path(work / _STAGE) as temporary:
            for folder in filter(Path.is_dir, wanted):
                shutil.copytree(folder, temporary / folder.name, copy_function=_link_or_copy)
    differing = f", which differs in {', '.join(_differences(others, inputs))}" if others is not None else ""
    say(f"training: resuming from step {last} of {source}{differing}; that folder stays until `ragtune gc` removes it")


def _tell_others(work: Path, inputs: Mapping[str, Any]) -> None:
    told = 0
    for folder in sorted(path for path in work.parent.iterdir() if path.is_dir() and path != work):
        step, others = checkpoints.last_step(folder / _STAGE), _read(folder)
        if step is None or others is None or others["base_model"] != inputs["base_model"] or told == _AT_MOST:
            continue
        if others["dataset"] == inputs["dataset"] and not is_locked(_lock(folder)):
            told += 1
            say(
                f"training: {folder} holds step {step} of an unfinished run that differs in "
                f"{', '.join(_differences(others, inputs))}; this run starts at 0, resume_from={folder.name} would go "
                "on from there, `ragtune gc` removes it"
            )


def _read(folder: Path) -> dict[str, Any] | None:
    """The inputs of a run; None where an earlier version has written none."""
    path = folder / INPUTS
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _differences(others: Mapping[str, Any], inputs: Mapping[str, Any]) -> list[str]:
    """Names of what differs, parameters with both values."""
    named = [name for name in inputs if name != "parameters" and inputs[name] != others.get(name)]
    own, old = inputs["parameters"], others["parameters"]
    changed = [name for name in sorted(own.keys() | old.keys()) if own.get(name) != old.get(name)]
    return [*named, *(f"{name}={old.get(name)} (here {own.get(name)})" for name in changed)] or ["nothing"]


def _link_or_copy(source: str, target: str) -> None:
    """A hard link, as files of a checkpoint never change; a copy between two file systems."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@contextmanager
def only_run(work: Path) -> Iterator[None]:
    """Keep a second start of the same run out while this one is under way.

    Raises:
        StorageError: it is under way in another process, or the work folder has no locks.
    """
    lock = _lock(work)
    with locked(lock):
        work.mkdir(exist_ok=True)
        yield
        lock.unlink(missing_ok=True)


def _lock(work: Path) -> Path:
    return work.parent / f".{work.name}.lock"
