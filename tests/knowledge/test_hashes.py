import hashlib

import numpy as np
import pytest

from ragtune.knowledge.hashes import HashIndex, first_rows, from_hex_digits, hash_array, hex_digits


def hashes_of(*names):
    return hash_array((hashlib.blake2b(name.encode(), digest_size=16).digest() for name in names), len(names))


def test_rows_are_found_and_what_is_not_there_is_not():
    index = HashIndex(hashes_of(*(f"w{row}" for row in range(1000))))
    assert index.rows(hashes_of("w999", "elsewhere", "w0")).tolist() == [999, -1, 0]
    assert (len(index), index.distinct) == (1000, 1000)


def test_of_equal_hashes_the_first_row_counts():
    hashes = hashes_of("b", "a", "b", "c", "a")
    assert HashIndex(hashes).rows(hashes).tolist() == [0, 1, 0, 3, 1]
    assert HashIndex(hashes).distinct == 3
    assert first_rows(hashes).tolist() == [0, 1, 3]


def test_in_nothing_nothing_is_found():
    assert HashIndex(hashes_of()).rows(hashes_of("a")).tolist() == [-1]
    assert HashIndex(hashes_of("a")).rows(hashes_of()).tolist() == []


@pytest.mark.parametrize("tail", [b"\0", b"\0\0\0", b"\1"])
def test_zeros_at_the_end_are_part_of_a_hash(tail):
    hashes = hash_array([bytes(16 - len(tail)) + tail, b"\1" * (16 - len(tail)) + tail], 2)
    digits = hex_digits(hashes)
    assert [len(line) for line in digits] == [32, 32]
    assert digits[0] != digits[1]
    assert np.array_equal(from_hex_digits(digits), hashes)
    assert HashIndex(hashes).rows(hashes).tolist() == [0, 1]
