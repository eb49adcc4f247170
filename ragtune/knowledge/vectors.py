"""The vectors of a version in a file of their own, in the order of its passages, which any number of processes map."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ragtune.errors import KnowledgeBaseError
from ragtune.files import atomic_path
from ragtune.knowledge.damage import raise_if_unavailable
from ragtune.knowledge.exact import Floats, Vectors
from ragtune.knowledge.manifest import REPAIR

VECTORS = "vectors.npy"
MEAN = "mean.npy"  # beside it, where Milvus holds the vectors without their mean
_ROWS_AT_ONCE = 32_768


def write_vectors(folder: Path, vectors: Vectors) -> Floats:
    """Write a version's vectors; their mean, (d,).

    Raises:
        StorageError: the disk is full or may not be written.
    """
    total = np.zeros(vectors.shape[1])
    with atomic_path(folder / VECTORS) as temporary, open(temporary, "wb") as stream:
        header = {"descr": "<f4", "fortran_order": False, "shape": tuple(vectors.shape)}
        np.lib.format.write_array_header_1_0(stream, header)
        for start in range(0, vectors.shape[0], _ROWS_AT_ONCE):
            part = vectors[start : min(start + _ROWS_AT_ONCE, vectors.shape[0])]
            stream.write(np.ascontiguousarray(part, "<f4").tobytes())
            total += part.sum(axis=0, dtype=np.float64)
    return (total / max(1, vectors.shape[0])).astype(np.float32)


def read_vectors(folder: Path, rows: int, dimension: int) -> Floats:
    """A version's vectors, (rows, d), mapped into memory and not to be written to.

    Raises:
        KnowledgeBaseError: they are missing or broken.
    """
    vectors = _load(folder / VECTORS, mapped=True)
    if vectors.shape != (rows, dimension) or vectors.dtype != np.float32:
        raise _broken(folder / VECTORS, f"{vectors.dtype} {vectors.shape} instead of float32 {(rows, dimension)}")
    return vectors


def write_mean(folder: Path, mean: Floats) -> None:
    """Keep what is taken off a version's vectors before they go into Milvus.

    Raises:
        StorageError: the disk is full or may not be written.
    """
    with atomic_path(folder / MEAN) as temporary, open(temporary, "wb") as stream:
        np.save(stream, mean)


def read_mean(folder: Path) -> Floats | None:
    """Return the mean that was taken off a version's vectors, (d,); None where none was.

    Raises:
        KnowledgeBaseError: it is broken.
    """
    return _load(folder / MEAN) if (folder / MEAN).exists() else None


def _load(path: Path, mapped: bool = False) -> npt.NDArray[np.float32]:
    try:
        return np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False).view(np.ndarray)
    except (OSError, ValueError, EOFError) as error:
        raise_if_unavailable(path, error)
        raise _broken(path, str(error)) from error


def _broken(path: Path, why: str) -> KnowledgeBaseError:
    return KnowledgeBaseError(f"{path}: cannot be read ({why}); {REPAIR}")
