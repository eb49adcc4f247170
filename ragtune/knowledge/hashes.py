"""128-bit hashes as NumPy arrays, and where they stand: 16 bytes per hash, 24 per looked-up one, no dictionary."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

HASH = np.dtype("S16")  # NumPy compares these as fixed 16 bytes, but cuts the trailing zeros off of a single item
HASH_BYTES = HASH.itemsize

Hashes = npt.NDArray[np.bytes_]
Rows = npt.NDArray[np.int64]


class HashIndex:
    """The rows of hashes, found by binary search."""

    def __init__(self, hashes: Hashes):
        """Sort them; what they were made of is not kept."""
        self._rows = np.argsort(hashes, kind="stable")
        self._sorted = hashes[self._rows]

    def __len__(self) -> int:
        return len(self._sorted)

    @property
    def distinct(self) -> int:
        """Number of different ones."""
        return len(self) - int(np.count_nonzero(self._sorted[1:] == self._sorted[:-1]))

    def rows(self, hashes: Hashes) -> Rows:
        """The row of each of some hashes, the first one where several are equal; -1 where it is not there."""
        if not len(self):
            return np.full(len(hashes), -1)
        places = np.searchsorted(self._sorted, hashes)
        places[places == len(self)] = 0
        return np.where(self._sorted[places] == hashes, self._rows[places], -1)


def hash_array(hashes: Iterable[bytes], count: int) -> Hashes:
    """(count,) of `HASH`, from as many byte strings of 16."""
    return np.fromiter(hashes, HASH, count)


def first_rows(hashes: Hashes) -> Rows:
    """The rows, in ascending order, of hashes that no earlier row has."""
    return np.sort(np.unique(hashes, return_index=True)[1])


def first_of_equals(hashes: Hashes) -> Rows:
    """For each hash the row of the first one that equals it."""
    _, first, group = np.unique(hashes, return_index=True, return_inverse=True)
    return first[group]


def hex_digits(hashes: Hashes) -> list[str]:
    """Each as 32 hex digits."""
    digits, width = np.ascontiguousarray(hashes).tobytes().hex(), 2 * HASH_BYTES
    return [digits[start : start + width] for start in range(0, len(digits), width)]


def from_hex_digits(digits: Iterable[str]) -> Hashes:
    """The reverse of `hex_digits`."""
    return np.frombuffer(bytes.fromhex("".join(digits)), HASH)
