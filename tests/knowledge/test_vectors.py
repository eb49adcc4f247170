import os

import numpy as np
import pytest
from dpr_vectors import dpr_vectors

from ragtune.errors import KnowledgeBaseError
from ragtune.knowledge import vectors as module
from ragtune.knowledge.vectors import MEAN, VECTORS, read_mean, read_vectors, write_mean, write_vectors


@pytest.fixture
def vectors():
    return dpr_vectors(100, 8)


def test_vectors_come_back_bit_by_bit_and_their_mean(tmp_path, vectors, monkeypatch):
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 7)
    mean = write_vectors(tmp_path, vectors)
    mapped = read_vectors(tmp_path, 100, 8)
    assert np.array_equal(mapped, vectors)
    assert not mapped.flags.writeable
    np.testing.assert_allclose(mean, vectors.mean(axis=0), rtol=1e-5)


def test_there_is_a_mean_only_where_one_was_written(tmp_path):
    assert read_mean(tmp_path) is None
    write_mean(tmp_path, np.arange(8, dtype=np.float32))
    assert np.array_equal(read_mean(tmp_path), np.arange(8))


@pytest.mark.parametrize("damage", ["gone", "cut off", "of another shape", "of another kind"])
def test_vectors_that_are_missing_or_broken_are_named(tmp_path, vectors, damage):
    write_vectors(tmp_path, vectors)
    path = tmp_path / VECTORS
    {
        "gone": path.unlink,
        "cut off": lambda: os.truncate(path, 500),
        "of another shape": lambda: np.save(path, vectors[:99]),
        "of another kind": lambda: np.save(path, vectors.astype(np.float64)),
    }[damage]()
    with pytest.raises(KnowledgeBaseError, match=r"vectors.npy: cannot be read .*run ingest_passages again"):
        read_vectors(tmp_path, 100, 8)


def test_a_broken_mean_is_named(tmp_path):
    (tmp_path / MEAN).write_bytes(b"half")
    with pytest.raises(KnowledgeBaseError, match=r"mean.npy: cannot be read"):
        read_mean(tmp_path)
