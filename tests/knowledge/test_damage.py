import errno
import os

import pytest

from ragtune.errors import UnavailableError
from ragtune.knowledge.damage import checksums_of, damaged_files, raise_if_unavailable


def test_files_that_are_gone_or_changed_are_damaged(tmp_path):
    for name in ("one", "two", "three"):
        (tmp_path / name).write_text(name)
    checksums = checksums_of(tmp_path, ["one", "two", "three", "four"])
    assert list(checksums) == ["one", "two", "three"]
    assert damaged_files(tmp_path, checksums) == []
    (tmp_path / "one").unlink()
    (tmp_path / "two").write_text("owt")
    assert damaged_files(tmp_path, checksums) == ["one", "two"]
    assert damaged_files(tmp_path, checksums, ["two", "three"]) == ["two"]


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.EACCES, errno.EMFILE])
def test_what_the_system_cannot_read_now_is_no_damage(number):
    with pytest.raises(UnavailableError, match=r"f: cannot be read \(.*which need not be damage"):
        raise_if_unavailable("f", OSError(number, os.strerror(number)))


@pytest.mark.parametrize("error", [FileNotFoundError(2, "no"), OSError("not a Parquet file"), ValueError("no magic")])
def test_what_is_missing_or_of_another_format_is_damage(error):
    raise_if_unavailable("f", error)
