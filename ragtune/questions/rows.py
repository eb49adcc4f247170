"""Rows of a table, one at a time, from any place: JSON lines, JSON documents, CSV, Parquet, Hugging Face datasets."""

import contextlib
import gzip
import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ragtune.errors import StorageError
from ragtune.files import open_uri
from ragtune.questions.delimited import check_quoting, delimited_rows
from ragtune.questions.hub_dataset import HubDataset
from ragtune.questions.json_array import ARRAY_START, array_elements
from ragtune.questions.lines import TOO_LONG, lines_of
from ragtune.reading import files_of, is_http, readable
from ragtune.uris import shown

_CHUNK_BYTES = 1 << 20
_PARQUET_BATCH_ROWS = 128  # a row of Natural Questions is a whole Wikipedia page
_PARQUET, _ZIP, _GZIP, _ZSTD = b"PAR1", b"PK\x03\x04", b"\x1f\x8b", b"\x28\xb5\x2f\xfd"  # first bytes
_COMPRESSIONS = (".gz", ".zip", ".bz2", ".xz", ".zst")


@dataclass(frozen=True, slots=True)
class Row:
    """One row, or the reason why it could not be read.

    Attributes:
        file: the URI that it came from.
        line: its line from 1; in a Parquet file or Hugging Face dataset, its number.
        value: column → value; empty where there is a problem.
        problem: "" or what is wrong with it.
    """

    file: str
    line: int
    value: dict[str, Any] = field(default_factory=dict)
    problem: str = ""


def read_rows(uri: str | Path, skip: Sequence[str] = (), quoting: str = "auto") -> Iterator[Row]:
    """Read a file, a folder or glob of files in the order of their names, or a Hugging Face dataset, as a stream.

    A file is Parquet, gzip or zip (of one file) by its first bytes, CSV or TSV by its name (`.csv`, `.tsv`, before a
    `.gz`), and JSON otherwise: one object per line, one array of objects, or one object with an array under "data"
    (SQuAD), whose elements are the rows. No more than a row (or a batch of Parquet rows) is held in memory, and no row
    of a text file is longer than `MAX_ROW_BYTES`.

    Args:
        uri: a local path, an fsspec URI, or `hf://<owner>/<dataset>[@revision]?split=train&config=…` (a local folder
            works in place of the dataset's id); split is "train" unless given.
        skip: Parquet columns to leave out, nested ones with dots, such as "document.html".
        quoting: of CSV and TSV, one of `ragtune.questions.delimited.QUOTINGS`.

    Raises:
        ParameterError: there is no such quoting.
        StorageError: nothing is there, it may not be read, it is not UTF-8, or its gzip, Parquet or JSON document is
            broken. A broken line is no error: it is a row with a problem.
    """
    check_quoting(quoting)
    uri = str(uri)
    if dataset := HubDataset.parse(uri):
        for number, value in dataset.rows():
            yield Row(shown(uri), number, value)
        return
    for file in files_of(uri):
        yield from _file_rows(file, skip, quoting)


def _file_rows(uri: str, skip: Sequence[str], quoting: str) -> Iterator[Row]:
    file = shown(uri)
    with contextlib.ExitStack() as opened:
        stream = io.BufferedReader(opened.enter_context(open_uri(uri)), _CHUNK_BYTES)
        with readable(file):
            head = stream.peek(4)[:4]
            if head in (_ZIP, _PARQUET) and is_http(uri):  # which is read from the start; both have their index behind
                on_disk = opened.enter_context(tempfile.TemporaryFile())
                shutil.copyfileobj(stream, on_disk, _CHUNK_BYTES)
                on_disk.seek(0)
                stream = io.BufferedReader(on_disk, _CHUNK_BYTES)
            if head == _ZIP:
                stream, uri = _only_member(stream, file, opened)
                head = stream.peek(4)[:4]
            if head[:2] == _GZIP:  # by another name
                unpacked: Any = gzip.GzipFile(fileobj=stream)
                stream = io.BufferedReader(unpacked, _CHUNK_BYTES)
                head = stream.peek(4)[:4]
        if head == _ZSTD:
            raise StorageError(f"{file}: is Zstandard, which is not unpacked here; unpack it, or compress it with gzip")
        if head == _PARQUET:
            with readable(file):  # from S3 it is read piece by piece
                yield from _parquet_rows(stream, file, skip)
        else:
            yield from _text_rows(stream, file, _format_of(uri), quoting)


def _only_member(stream: Any, file: str, opened: contextlib.ExitStack) -> tuple[Any, str]:
    """The one file in a zip archive, and its name."""
    archive = opened.enter_context(zipfile.ZipFile(stream))
    names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")]
    if len(names) != 1:
        raise StorageError(
            f"{file}: holds {len(names):,} files ({', '.join(names[:3])} …), one is needed; unpack it, or name those to"
            f" read: zip://*.jsonl::{file}"
        )
    return io.BufferedReader(opened.enter_context(archive.open(names[0])), _CHUNK_BYTES), names[0]


def _format_of(uri: str) -> str:
    """The last suffix of a file's name that does not stand for a compression, such as ".csv"."""
    place = uri.partition("::")[0]  # of zip://questions.csv::archive.zip
    path = PurePosixPath(place.partition("?")[0] if "://" in place else place)
    if path.suffix.lower() in _COMPRESSIONS:
        path = path.with_suffix("")
    return path.suffix.lower()


def _text_rows(stream: io.BufferedReader, file: str, kind: str, quoting: str) -> Iterator[Row]:
    if kind in (".csv", ".tsv"):
        delimiter = "\t" if kind == ".tsv" else ","
        for line, value, problem in delimited_rows(lines_of(stream, file), file, delimiter, quoting):
            yield Row(file, line, value, problem)
        return
    with readable(file):
        head = stream.peek()
    if start := ARRAY_START.match(head.decode("utf-8-sig", "ignore")):
        for line, element in array_elements(stream, file, start.end()):
            yield _json_row(file, line, element)
    else:
        yield from _json_lines(stream, file)


def _json_lines(stream: Any, file: str) -> Iterator[Row]:
    for number, line in lines_of(stream, file):
        if line is None:
            yield Row(file, number, problem=TOO_LONG)
        elif not line.isspace():
            try:
                yield _json_row(file, number, json.loads(line))
            except (ValueError, RecursionError) as error:
                yield Row(file, number, problem=f"broken JSON: {error}")


def _json_row(file: str, number: int, value: Any) -> Row:
    if isinstance(value, dict):
        return Row(file, number, value)
    return Row(file, number, problem=f"a row must be a JSON object, this is of type {type(value).__name__}")


def _parquet_rows(stream: Any, file: str, skip: Sequence[str]) -> Iterator[Row]:
    number = 0
    try:
        with pq.ParquetFile(stream) as parquet:
            leaves = [parquet.schema.column(index).path for index in range(len(parquet.schema))]
            columns = [leaf for leaf in leaves if not any(leaf == name or leaf.startswith(f"{name}.") for name in skip)]
            for batch in parquet.iter_batches(_PARQUET_BATCH_ROWS, columns=columns):
                for value, problem in _batch_rows(batch):
                    number += 1
                    yield Row(file, number, value, problem)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise StorageError(
            f"{file}: broken Parquet after row {number:,} ({error}); copy or download it again"
        ) from error


def _batch_rows(batch: pa.RecordBatch) -> list[tuple[dict[str, Any], str]]:
    """The values of each row, and "" or why there are none."""
    try:
        return [(value, "") for value in batch.to_pylist()]
    except (ValueError, OverflowError) as error:  # such as a date beyond Python's last year
        if len(batch) == 1:
            return [({}, f"holds what Python cannot: {error}")]
        return [row for place in range(len(batch)) for row in _batch_rows(batch.slice(place, 1))]
