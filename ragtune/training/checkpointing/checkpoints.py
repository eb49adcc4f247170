"""Checkpoints and best steps' weights on disk, each whole or not there."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ragtune.errors import TrainingError
from ragtune.files import flush_to_disk, put_in_place, remove_folder
from ragtune.training.distributed.fsdp import load_full_state

WEIGHTS = "model.safetensors"
STATE = "trainer_state.json"
CLOCK = "clock.json"
_PARTIAL = ".partial-"
_LEFT_BEHIND = (f"{_PARTIAL}*", ".checkpoint-*", ".best-*")  # half written, and half removed
_NAME = re.compile(r"checkpoint-(\d+)$")
_COPIES_OF_WEIGHTS = 4  # trained weights, AdamW's two moments, and the weights of the best step of a checkpoint


def partial_of(whole: Path) -> Path:
    """The place where a folder is written before `publish` gives it its name."""
    return whole.with_name(f"{_PARTIAL}{whole.name}")


def checkpoint_folder(folder: str | Path, step: int) -> Path:
    """The folder of a step's whole checkpoint, by Trainer's own name for it."""
    return Path(folder) / f"checkpoint-{step}"


def best_folder(folder: str | Path, step: int) -> Path:
    """The folder of the weights of a step that was the best when it was evaluated."""
    return Path(folder) / f"best-{step}"


def best_of(checkpoint: Path) -> int | None:
    """The step that was the best when a checkpoint was written; None where nothing had been evaluated."""
    return json.loads((checkpoint / STATE).read_text(encoding="utf-8"))["best_global_step"]


def drop_bests(folder: Path, current: int | None) -> None:
    """Remove the weights of former best steps, except those that a whole checkpoint needs."""
    needed = {current} | {best_of(path) for path in folder.glob("checkpoint-*")}
    for path in folder.glob("best-*"):
        if int(path.name.removeprefix("best-")) not in needed:
            remove_folder(path)


def drop_checkpoints(folder: Path, kept: int) -> None:
    """Remove all whole checkpoints but the `kept` ones with the most steps."""
    for step in _steps(folder)[:-kept]:
        remove_folder(checkpoint_folder(folder, step))


def last_checkpoint(folder: str | Path) -> Path | None:
    """The whole checkpoint with the most steps; what a killed process left half written or removed is swept up."""
    folder = Path(folder)
    if not folder.is_dir():
        return None
    for pattern in _LEFT_BEHIND:
        for hidden in folder.glob(pattern):
            shutil.rmtree(hidden, ignore_errors=True)
    step = last_step(folder)
    return checkpoint_folder(folder, step) if step is not None else None


def last_step(folder: str | Path) -> int | None:
    """The most steps of a whole checkpoint in a folder; None where there is none. Nothing is removed."""
    return max(_steps(folder), default=None)


def _steps(folder: str | Path) -> list[int]:
    found = [_NAME.match(path.name) for path in Path(folder).glob("checkpoint-*")]
    return sorted(int(name.group(1)) for name in found if name)


def publish(partial: Path, whole: Path) -> None:
    """Flush what lies in `partial` to the disk and give it the name `whole`: from then on it counts."""
    flush_to_disk(partial)
    put_in_place(partial, whole)


def save_weights(state: dict[str, Tensor], folder: str | Path) -> None:
    """Write what `ragtune.training.distributed.fsdp.full_state` gave, as safetensors."""
    safetensors.torch.save_file(state, str(Path(folder) / WEIGHTS))


def load_weights(module: nn.Module, folder: str | Path) -> None:
    """Read back what `save_weights` wrote.

    Raises:
        TrainingError: the file is missing, broken, or of another model.
    """
    path = Path(folder) / WEIGHTS
    try:
        state = safetensors.torch.load_file(str(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise TrainingError(
            f"{path}: cannot be loaded ({error}); delete {folder} to resume from the checkpoint before it"
        ) from error
    try:
        load_full_state(module, state)
    except (KeyError, RuntimeError) as error:
        raise TrainingError(
            f"{path}: is of another model, or of a run that trained other parts of it ({error}); delete "
            f"{Path(folder).parent} to start over"
        ) from error


def check_space(module: nn.Module, folder: str | Path, kept: int) -> None:
    """Check, before any training, that the disk can hold the checkpoints.

    Args:
        module: what is trained.
        folder: where the checkpoints go; exists. The files in it make room for what comes, but those that another run's
            folder holds too, by hard links.
        kept: how many stay at a time; one more is being written.

    Raises:
        TrainingError: it cannot.
    """
    trained = sum(weight.numel() * weight.element_size() for weight in module.parameters() if weight.requires_grad)
    needed = trained * _COPIES_OF_WEIGHTS * (kept + 1)
    held = (file.stat() for file in Path(folder).glob("*-*/*"))
    free = shutil.disk_usage(folder).free + sum(file.st_size for file in held if file.st_nlink == 1)
    if free < needed:
        raise TrainingError(
            f"{folder}: {kept + 1} checkpoints need {needed / 1e9:.1f} GB, but the disk has {free / 1e9:.1f} GB left; "
            "free some space, choose another work_folder, or lower save_total_limit"
        )


@contextmanager
def writing(checkpoint: Path) -> Iterator[None]:
    """Turn what goes wrong while a checkpoint is written into a TrainingError that names it and the way out."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        shutil.rmtree(checkpoint, ignore_errors=True)
        raise TrainingError(
            f"{checkpoint.parent}: {checkpoint.name.removeprefix(_PARTIAL)} could not be written ({error}); free "
            "some space or choose another work_folder; the same command then resumes from the last checkpoint, if any"
        ) from error
