"""Rows of a table, one at a time, from any place: JSON lines, JSON documents, CSV, Parquet, Hugging Face datasets."""

import codecs
import csv
import gzip
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from ragtune.errors import StorageError
from ragtune.files import open_uri
from ragtune.questions.json_array import ARRAY_START, array_elements
from ragtune.questions.stream_errors import not_utf8, readable

_CHUNK_BYTES = 1 << 20
_PARQUET_BATCH_ROWS = 128  # a row of Natural Questions is a whole Wikipedia page
_MAX_CSV_FIELD_CHARACTERS = 1 << 24


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


def read_rows(uri: str | Path, skip: Sequence[str] = ()) -> Iterator[Row]:
    """Read a file, a folder or glob of files in the order of their names, or a Hugging Face dataset, as a stream.

    A file is Parquet or gzip by its first bytes, CSV or TSV by its name (`.csv`, `.tsv`, before a `.gz`), and JSON
    otherwise: an object a line, one array of objects, or one object with an array under "data" (SQuAD), whose elements
    are the rows. No more than a row (or a batch of Parquet rows) is held in memory.

    Args:
        uri: a local path, an fsspec URI, or `hf://<owner>/<dataset>?split=train&config=…&revision=…` (a local folder
            works in place of the dataset's id); split is "train" unless given.
        skip: Parquet columns to leave out, nested ones with dots, such as "document.html".

    Raises:
        StorageError: nothing is there, it may not be read, it is not UTF-8, or its gzip, Parquet or JSON document is
            broken. A broken line is no error: it is a row with a problem.
    """
    uri = str(uri)
    if uri.startswith("hf://") and not uri.startswith("hf://datasets/"):  # that one is fsspec's own
        yield from _hub_rows(uri)
        return
    for file in files_of(uri):
        yield from _file_rows(file, skip)


def files_of(uri: str) -> list[str]:
    """The files behind a path, folder, glob or fsspec URI, in the order of their names; hidden ones are left out.

    Raises:
        StorageError: a folder or glob holds none, or such a URI cannot be read.
    """
    if uri.startswith(("http://", "https://")):  # one file; asking for a folder would download it
        return [uri]
    filesystem, path = _filesystem(uri)
    if any(character in path for character in "*?[") and not filesystem.exists(path):
        files = sorted(filesystem.glob(path))
    elif filesystem.isdir(path):
        files = sorted(name for name in filesystem.find(path) if not Path(name).name.startswith((".", "_")))
    else:
        return [uri]
    if not files:
        raise StorageError(f"{uri}: no files there; check the path or URI")
    return files if "://" not in uri else [filesystem.unstrip_protocol(name) for name in files]


def _filesystem(uri: str) -> tuple[Any, str]:
    try:
        return fsspec.url_to_fs(uri)
    except (ImportError, ValueError) as error:
        raise StorageError(f"{uri}: this kind of URI cannot be read: {error}") from error


def _file_rows(file: str, skip: Sequence[str]) -> Iterator[Row]:
    with readable(file):
        opened = open_uri(file)
    with io.BufferedReader(opened, _CHUNK_BYTES) as stream:
        with readable(file):
            head = stream.peek(4)[:4]
        if head == b"PAR1":
            yield from _parquet_rows(stream, file, skip)
        elif head[:2] == b"\x1f\x8b":  # gzip by another name
            unpacked: Any = gzip.GzipFile(fileobj=stream)
            yield from _text_rows(io.BufferedReader(unpacked, _CHUNK_BYTES), file)
        else:
            yield from _text_rows(stream, file)


def _text_rows(stream: io.BufferedReader, file: str) -> Iterator[Row]:
    name = file.lower().removesuffix(".gz")
    if name.endswith((".csv", ".tsv")):
        yield from _csv_rows(stream, file, "\t" if name.endswith(".tsv") else ",")
        return
    with readable(file):
        head = stream.peek()
    if start := ARRAY_START.match(head.decode("utf-8-sig", "ignore")):
        yield from _array_rows(stream, file, start.end())
    else:
        yield from _json_lines(stream, file)


def _lines(stream: Any, file: str) -> Iterator[tuple[int, str]]:
    number = 0
    while True:
        with readable(file, number):
            raw = stream.readline()
        if not raw:
            return
        number += 1
        if number == 1:
            raw = raw.removeprefix(codecs.BOM_UTF8)
        try:
            yield number, raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise not_utf8(file, number, error) from error


def _json_lines(stream: Any, file: str) -> Iterator[Row]:
    for number, line in _lines(stream, file):
        if line.isspace():
            continue
        try:
            yield _json_row(file, number, json.loads(line))
        except (ValueError, RecursionError) as error:
            yield Row(file, number, problem=f"broken JSON: {error}")


def _json_row(file: str, number: int, value: Any) -> Row:
    if isinstance(value, dict):
        return Row(file, number, value)
    return Row(file, number, problem=f"a row must be a JSON object, this is of type {type(value).__name__}")


def _csv_rows(stream: Any, file: str, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(_MAX_CSV_FIELD_CHARACTERS)  # of the process; its default refuses long passages
    reader = csv.DictReader((line for _, line in _lines(stream, file)), delimiter=delimiter)
    while True:
        try:
            value = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Row(file, reader.line_num, problem=f"broken CSV: {error}")
            continue
        if None in value or None in value.values():
            yield Row(
                file, reader.line_num, problem=f"does not have the header's {len(reader.fieldnames or [])} columns"
            )
        else:
            yield Row(file, reader.line_num, value)


def _parquet_rows(stream: Any, file: str, skip: Sequence[str]) -> Iterator[Row]:
    number = 0
    try:
        with pq.ParquetFile(stream) as parquet:
            leaves = [parquet.schema.column(index).path for index in range(len(parquet.schema))]
            columns = [leaf for leaf in leaves if not any(leaf == name or leaf.startswith(f"{name}.") for name in skip)]
            for batch in parquet.iter_batches(_PARQUET_BATCH_ROWS, columns=columns):
                for value in batch.to_pylist():
                    number += 1
                    yield Row(file, number, value)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise StorageError(
            f"{file}: broken Parquet after row {number:,} ({error}); copy or download it again"
        ) from error


def _array_rows(stream: io.BufferedReader, file: str, start: int) -> Iterator[Row]:
    for line, value in array_elements(stream, file, start):
        yield _json_row(file, line, value)


def _hub_rows(uri: str) -> Iterator[Row]:
    try:
        import datasets
    except ImportError as error:
        raise StorageError(f'{uri}: needs the package datasets; pip install "ragtune[train]"') from error
    name, _, query = uri.removeprefix("hf://").partition("?")
    options = {key: values[-1] for key, values in parse_qs(query, keep_blank_values=True).items()}
    if unknown := options.keys() - {"split", "config", "revision"}:
        raise StorageError(f"{uri}: no such option {sorted(unknown)}; there are split, config and revision")
    number = 0
    try:
        rows = datasets.load_dataset(
            name,
            options.get("config"),
            split=options.get("split", "train"),
            revision=options.get("revision"),
            streaming=True,
        )
        for number, value in enumerate(rows, 1):
            yield Row(uri, number, value)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        place = f"stopped after row {number:,}" if number else "cannot be opened"
        raise StorageError(
            f"{uri}: {place} ({type(error).__name__}: {error}); check the dataset's id, split and config,"
            " the network, and HF_TOKEN where it is private"
        ) from error
