"""The questions that a model learnt from, kept beside it as hashes: those that can judge it no more."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ragtune.questions.normalization import normalize_question
from ragtune.questions.splits import Keys, key_of

LEARNT_FILE = "learnt_questions.npy"
_NONE = np.zeros(0, np.uint64)


def write_learnt(folder: str | Path, questions: Iterable[str], before: str | Path = "") -> None:
    """Write the hashes into a model's folder, 8 bytes each; those of spelling variants are the same.

    Args:
        folder: the model's.
        questions: all that its training has used, those that chose its best step too.
        before: the model folder that training began with, whose questions it has learnt from too; "" where bare parts
            were. Where it does not tell, nothing is written, as not all would be known.
    """
    earlier = read_learnt(before) if before else _NONE
    if earlier is None:
        return
    keys = np.fromiter((_key(question) for question in questions), np.uint64)
    np.save(Path(folder) / LEARNT_FILE, np.union1d(keys, earlier))


def read_learnt(folder: str | Path) -> Keys | None:
    """The hashes, in order; None where the folder has none, such as one that an earlier ragtune wrote."""
    try:
        return np.load(Path(folder) / LEARNT_FILE, allow_pickle=False).astype(np.uint64)
    except (OSError, ValueError, EOFError):
        return None


def among(questions: Iterable[str], keys: Keys) -> npt.NDArray[np.bool_]:
    """Mark the questions that are among them, (n,)."""
    return np.isin(np.fromiter((_key(question) for question in questions), np.uint64), keys)


def _key(question: str) -> int:
    return key_of(normalize_question(question) or question)
