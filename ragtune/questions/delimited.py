"""Rows of CSV and TSV: a stray quote costs its own row, and cells that hold lists become lists."""

import ast
import csv
import json
import re
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from ragtune.errors import ParameterError, StorageError
from ragtune.questions.lines import MAX_ROW_BYTES, TOO_LONG

QUOTINGS = ("auto", "none", "minimal")
"""`auto` reads TSV without quoting and CSV with it, strictly; `none` and `minimal` say so for both."""

_Lines = Iterator[tuple[int, str | None]]
_Record = tuple[int, list[str], str]  # line, cells, problem

_MAX_RECORD_LINES = 100_000  # a cell that goes on for longer has lost its closing quote
_LIST_COLUMNS = ("answers", "answer", "gold_ids")
_TEXT = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_PYTHON_LIST = re.compile(rf"\[\s*(?:{_TEXT}\s*(?:,\s*{_TEXT}\s*)*,?\s*)?\]", re.S)  # NumPy's has no commas


def check_quoting(quoting: str) -> None:
    """Raise ParameterError if there is no such way to quote."""
    if quoting not in QUOTINGS:
        raise ParameterError(f'quoting "{quoting}": must be one of {", ".join(QUOTINGS)}')


def delimited_rows(
    lines: _Lines, file: str, delimiter: str, quoting: str = "auto"
) -> Iterator[tuple[int, dict[str, Any], str]]:
    """Yield each row as its first line, its cells by column, and "" or what is wrong with it.

    A text such as `["a", "b"]` under answers, answer or gold_ids is split, as JSON or as Python prints it; another one
    in brackets or braces is a problem.

    Args:
        lines: with their numbers, None for one that is too long; the first one names the columns.
        file: what error messages call it.
        delimiter: "," or a tab.
        quoting: one of `QUOTINGS`.

    Raises:
        StorageError: the header is broken.
    """
    quoted = quoting == "minimal" or (quoting == "auto" and delimiter == ",")
    records = _quoted(lines, delimiter) if quoted else _unquoted(lines, delimiter)
    first, header, problem = next(records, (0, [], ""))
    if not problem and len(set(header)) < len(header):
        problem = "names a column twice"
    if not problem and not quoted and any(name.startswith('"') for name in header):
        problem = "is quoted; pass quoting=minimal"
    if not problem and len(header) == 1 and (other := re.search(r"[;\t,\r]", header[0])):
        kind = {";": "a semicolon", "\t": "a tab", ",": "a comma", "\r": "a carriage return"}[other[0]]
        problem = f"has {kind} in its only name; write a .csv with commas or a .tsv with tabs, a row a line"
    if problem:
        raise StorageError(f"{file}:{first}: the header {problem}")
    for line, cells, problem in records:
        row: dict[str, Any] = {}
        if not problem and len(cells) != len(header):
            problem = f"has {len(cells)} columns, the header {len(header)}"
        if not problem:
            row = dict(zip(header, cells, strict=True))
            try:
                row |= {name: _list(name, row[name]) for name in _LIST_COLUMNS if name in row}
            except ValueError as error:
                row, problem = {}, str(error)
        yield line, row, problem


def _unquoted(lines: _Lines, delimiter: str) -> Iterator[_Record]:
    for number, line in lines:
        if line is None:
            yield number, [], TOO_LONG
        elif line := line.rstrip("\r\n"):
            yield number, line.split(delimiter), ""


def _quoted(lines: _Lines, delimiter: str) -> Iterator[_Record]:
    csv.field_size_limit(MAX_ROW_BYTES)  # of the process; its default refuses long passages
    source = _Source(lines)
    reader = csv.reader(source, delimiter=delimiter, strict=True)
    while True:
        source.record = []
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            number, swallowed = source.record[0][0], len(source.record) > 1
            source.take_back()
            yield number, [], _problem(str(error), swallowed)
        else:
            if cells:
                yield source.record[0][0], cells, ""


def _problem(error: str, swallowed: bool) -> str:
    if error == TOO_LONG:
        return error
    return f"broken CSV: {'a quote is not closed where its cell ends' if swallowed else error}"


class _Source:
    """Lines for a csv.reader; those that a stray quote has swallowed can be read once more."""

    def __init__(self, lines: _Lines):
        self._lines = lines
        self._again: deque[tuple[int, str | None]] = deque()
        self.record: list[tuple[int, str | None]] = []
        self._size = 0

    def __iter__(self) -> "_Source":
        return self

    def __next__(self) -> str:
        number, line = self._again.popleft() if self._again else next(self._lines)
        self._size = (self._size if self.record else 0) + len(line or "")
        self.record.append((number, line))
        if line is None or self._size > MAX_ROW_BYTES:
            raise csv.Error(TOO_LONG)
        if len(self.record) > _MAX_RECORD_LINES:
            raise csv.Error
        return line

    def take_back(self) -> None:
        """Give the record's lines again, except for the first one."""
        self._again.extendleft(reversed(self.record[1:]))


def _list(name: str, cell: str) -> Any:
    """Split a cell that holds a list; `gold_ids` are one in any case, answers may be a text."""
    text = cell.strip()
    if not text.startswith(("[", "{", "array(")):
        return cell if name != "gold_ids" else [text] if text else []
    parse: Callable[[str], Any] = ast.literal_eval if _PYTHON_LIST.fullmatch(text) else _json
    try:
        return parse(text)
    except (ValueError, SyntaxError, RecursionError) as error:
        raise ValueError(f'"{name}" looks like a list and is none: {text[:50]}; write ["a", "b"]') from error


def _json(text: str) -> Any:
    return json.loads(text, parse_int=str, parse_float=str)
