"""The elements of one long JSON array, without the whole of it in memory: how SQuAD's files come."""

import codecs
import io
import json
import re
from collections.abc import Iterator
from typing import Any

from ragtune.errors import StorageError
from ragtune.questions.lines import MAX_ROW_BYTES, TOO_LONG
from ragtune.reading import not_utf8, readable

ARRAY_START = re.compile(r'\s*(\[|\{(\s*"[^"]*"\s*:\s*("[^"]*"|[\d.]+)\s*,)*\s*"data"\s*:\s*\[)')
"""How a file begins that is an array, or an object with one under "data" after a few short members."""

_CHUNK_BYTES = 1 << 20
_LONGEST_TOKEN = 16  # characters in which text cut off anywhere may look like a fault, strings aside


def array_elements(stream: io.BufferedReader, file: str, start: int) -> Iterator[tuple[int, Any]]:
    """Parse the elements one by one, each with the line that it starts on.

    Args:
        stream: UTF-8 text, from the file's first byte.
        file: what error messages call it.
        start: the first element's place in characters, a byte order mark not counted; the end of `ARRAY_START`'s match.

    Raises:
        StorageError: the JSON is broken or breaks off, is not UTF-8, or an element is longer than `MAX_ROW_BYTES`.
    """
    window = _Window(stream, file, start)
    alone = "{" not in window.text[:start]
    closed = window.next_character() == "]"
    while not closed:
        line = window.line
        yield line, window.take_value()
        separator = window.next_character()
        if separator not in ("]", ","):
            what = "breaks off" if not separator else 'lacks a "," or "]" after a value'
            raise StorageError(f"{file}:{window.line}: the JSON {what}; copy or download it again")
        closed = separator == "]"
        if not closed:
            window.at += 1
            window.next_character()
    window.at += 1
    if alone and window.next_character():
        raise StorageError(f"{file}:{window.line}: more JSON after the end of the array; write one object per line")
    window.skip_rest()


class _Window:
    """The part of a long JSON text that is being parsed."""

    def __init__(self, stream: io.BufferedReader, file: str, start: int):
        self._stream, self._file = stream, file
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._json = json.JSONDecoder()
        self._ended = False
        self.text, self.at, self.line = "", 0, 1
        while len(self.text) < start and self._more():
            pass
        self.at = start
        self.line += self.text.count("\n", 0, start)

    def next_character(self) -> str:
        """The next one that is no white space, not taken; "" at the end of the file."""
        while True:
            while self.at < len(self.text):
                character = self.text[self.at]
                if not character.isspace():
                    return character
                self.line += character == "\n"
                self.at += 1
            if not self._more():
                return ""

    def take_value(self) -> Any:
        while True:
            try:
                value, end = self._json.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                # The text may just not have been read to its end; a fault well before that end will not mend.
                hopeless = not error.msg.startswith("Unterminated") and error.pos < len(self.text) - _LONGEST_TOKEN
                if hopeless or not self._more():
                    what = "is broken" if hopeless else "breaks off"
                    line = self.line + self.text.count("\n", self.at, error.pos)
                    raise StorageError(
                        f"{self._file}:{line}: the JSON {what} ({error.msg}); copy or download it again"
                    ) from error
            except (ValueError, RecursionError) as error:
                raise StorageError(f"{self._file}:{self.line}: the JSON cannot be read ({error})") from error
            else:
                if end > len(self.text) - _LONGEST_TOKEN and self._more():
                    continue  # "1." is a whole number and more to come
                self.line += self.text.count("\n", self.at, end)
                self.at = end
                return value

    def skip_rest(self) -> None:
        while self._more():  # to the end, where a gzip's checksum is
            self.at = len(self.text)

    def _more(self) -> bool:
        if self._ended:
            return False
        pending = self.text[self.at :]
        if len(pending) > MAX_ROW_BYTES:
            raise StorageError(f"{self._file}:{self.line}: a value {TOO_LONG}; write one object per line")
        with readable(self._file, self.line):
            # doubles, so that long values cost no n²
            raw = self._stream.read(min(max(_CHUNK_BYTES, len(pending)), MAX_ROW_BYTES + _CHUNK_BYTES - len(pending)))
        self._ended = not raw
        try:
            text = self._decoder.decode(raw, final=self._ended)
        except UnicodeDecodeError as error:
            line = self.line + pending.count("\n") + raw.count(b"\n", 0, error.start)
            raise not_utf8(self._file, line, error) from error
        if not self._ended:
            self.text, self.at = pending + text, 0
        return not self._ended
