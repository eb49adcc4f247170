"""Rows of a corpus, cleaned, from JSONL, Parquet, CSV or TSV."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragtune.errors import KnowledgeBaseError
from ragtune.questions.cleaning import clean
from ragtune.questions.rows import Row, read_rows


@dataclass(frozen=True, slots=True)
class CorpusRow:
    """A document or passage as it was given.

    Attributes:
        id: as text.
        title: "" where there is none.
        text: single spaces between words; "" where there is none.
        place: `file:line`, for messages.
    """

    id: str
    title: str
    text: str
    place: str


def read_corpus(uri: str | Path, quoting: str = "auto") -> Iterator[CorpusRow]:
    """Read the rows of a corpus with the columns `id`, `text` and, if there is one, `title`, as a stream.

    Args:
        uri: a local path, fsspec URI, folder, glob or `hf://` dataset; see `ragtune.questions.rows.read_rows`.
        quoting: of CSV and TSV, see there.

    Raises:
        StorageError: see `read_rows`.
        KnowledgeBaseError: a row is broken, or a column is missing or of the wrong type.
    """
    for row in read_rows(uri, quoting=quoting):
        place = f"{row.file}:{row.line}"
        if row.problem:
            raise KnowledgeBaseError(f"{place}: {row.problem}; fix or remove the row")
        for column in ("id", "text"):
            if column not in row.value:
                raise KnowledgeBaseError(
                    f'{place}: no column "{column}" among {", ".join(map(str, row.value))};'
                    " a corpus has id, title and text"
                )
        given = row.value["id"]
        identifier = clean(str(given)) if isinstance(given, str | int) else ""
        if not identifier:
            raise KnowledgeBaseError(f'{place}: "id" must be a text or a whole number, this is {given!r}')
        yield CorpusRow(identifier, _column(row, "title", place), _column(row, "text", place), place)


def _column(row: Row, name: str, place: str) -> str:
    value: Any = row.value.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise KnowledgeBaseError(f'{place}: "{name}" must be text, this is of type {type(value).__name__}')
    return clean(value)
