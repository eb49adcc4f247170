"""Lines of text from a stream, each of a bounded length."""

import codecs
import io
from collections.abc import Iterator
from typing import Any

from ragtune.errors import StorageError
from ragtune.reading import not_utf8, readable

MAX_ROW_BYTES = 64 << 20
"""Longest row of a text file, unpacked; a page of the original Natural Questions takes some MB."""

TOO_LONG = f"is longer than {MAX_ROW_BYTES >> 20} MiB"
_CHUNK_BYTES = 1 << 20


def lines_of(stream: io.BufferedIOBase, file: str) -> Iterator[tuple[int, str | None]]:
    """Yield each line as `raw_lines` does, decoded.

    Raises:
        StorageError: the file breaks off, or is not UTF-8.
    """
    for number, raw in raw_lines(stream, file):
        if number == 1 and raw and b"\0" in raw[:2]:  # ASCII in UTF-16 is valid UTF-8, full of NUL
            raise StorageError(
                f"{file}:1: is UTF-16, not UTF-8; convert it, for instance with iconv -f utf-16 -t utf-8"
            )
        try:
            yield number, None if raw is None else raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise not_utf8(file, number, error) from error


def raw_lines(stream: Any, file: str) -> Iterator[tuple[int, bytes | None]]:
    """Yield each line with its number, None for one of more than `MAX_ROW_BYTES`, of which the rest is skipped.

    A byte order mark before the first one is left out.

    Raises:
        StorageError: the file breaks off.
    """
    number = 0
    while True:
        with readable(file, number):
            raw = stream.readline(MAX_ROW_BYTES + 1)
            too_long = rest = len(raw) > MAX_ROW_BYTES
            while rest and not raw.endswith(b"\n"):
                raw = stream.readline(_CHUNK_BYTES)
                rest = bool(raw)
        if not raw and not too_long:
            return
        number += 1
        if number == 1:
            raw = raw.removeprefix(codecs.BOM_UTF8)
        yield number, None if too_long else raw
