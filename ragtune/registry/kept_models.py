"""Registered models' own copies, which the next run can read after the files of the run that trained them are gone."""

import contextlib
import os
import shutil
from pathlib import Path

from ragtune.files import atomic_path, content_hash

_NAME_DIGITS = 16
_READ_ONLY = 0o444


def keep_model(folder: str | Path, models: str | Path, model_hash: str) -> Path:
    """Return a model's folder below `models`, called by its content; it is made, whole or not at all, if need be.

    Files are hard links where both places are on one volume, else copies. They are made read-only, so that a program
    that would write into the run's model in place is refused instead of changing the registered one.

    Args:
        folder: the model folder.
        models: the folder of one registered model's versions.
        model_hash: `content_hash` of `folder`.

    Raises:
        StorageError: the disk is full or the place may not be written.
    """
    if there := kept_model(models, model_hash):
        return there
    kept = Path(models) / model_hash[:_NAME_DIGITS]
    with atomic_path(kept) as temporary:
        shutil.copytree(folder, temporary, copy_function=_link_or_copy)
    return kept


def kept_model(models: str | Path, model_hash: str) -> Path | None:
    """The folder below `models` that `keep_model` made of a model, None where there is none, or not what it was."""
    kept = Path(models) / model_hash[:_NAME_DIGITS]
    return kept if model_hash and kept.is_dir() and content_hash(kept) == model_hash else None


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(os.path.realpath(source), target)
    except OSError:  # another volume, a file system without links, somebody else's file
        shutil.copyfile(source, target)
    with contextlib.suppress(PermissionError):  # a link to somebody else's file is theirs to protect
        Path(target).chmod(_READ_ONLY)
