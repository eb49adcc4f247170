import io

import pytest

from ragtune.errors import StorageError
from ragtune.questions import lines
from ragtune.questions.lines import lines_of, raw_lines


def test_lines_have_numbers_and_no_byte_order_mark():
    stream = io.BytesIO(b"\xef\xbb\xbfone\ntwo\n\nfour")
    assert list(raw_lines(stream, "f")) == [(1, b"one\n"), (2, b"two\n"), (3, b"\n"), (4, b"four")]


def test_a_line_that_is_too_long_is_skipped_whole(monkeypatch):
    monkeypatch.setattr(lines, "MAX_ROW_BYTES", 5)
    monkeypatch.setattr(lines, "_CHUNK_BYTES", 2)
    stream = io.BytesIO(b"12345678901\nshort\nok\n1234567")
    assert list(raw_lines(stream, "f")) == [(1, None), (2, None), (3, b"ok\n"), (4, None)]


def test_other_encodings_are_named_with_file_and_line():
    with pytest.raises(StorageError, match="f:1: is UTF-16"):
        list(lines_of(io.BytesIO("one".encode("utf-16-le")), "f"))
    with pytest.raises(StorageError, match="f:2"):
        list(lines_of(io.BytesIO(b"one\ncaf\xe9\n"), "f"))
