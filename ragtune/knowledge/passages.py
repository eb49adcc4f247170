"""Passages: what a corpus is cut into, and how they lie on disk and in memory."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ragtune.errors import KnowledgeBaseError, StorageError
from ragtune.files import atomic_path
from ragtune.knowledge.damage import raise_if_unavailable
from ragtune.knowledge.hashes import HASH_BYTES, Hashes, HashIndex, Rows, hash_array

SCHEMA = pa.schema(
    [("id", pa.string()), ("title", pa.string()), ("text", pa.string()), ("source_ids", pa.list_(pa.string()))]
)

_ROWS_PER_GROUP = 10_000  # of a Parquet file: what is in memory while it is written


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of text that can be retrieved.

    Attributes:
        id: unique in the corpus; `w7#1` is the second piece of the corpus row `w7`.
        title: of the document that it comes from; "" where there is none.
        text: its words, single spaces between them.
        source_ids: ids of all the corpus rows whose text this is, or is a piece of, and the `text_id` of each text.
    """

    id: str
    title: str
    text: str
    source_ids: tuple[str, ...]


class Passages:
    """All passages of a corpus, by row; they stay in Arrow's memory and become Python objects one at a time.

    Their texts may take any number of bytes. Of each passage 16 bytes more are kept where `content_hashes` are asked
    for, 24 where rows are asked for by id. Two processes that open the same `.arrow` file share its memory; a
    `.parquet` file is unpacked by each.
    """

    def __init__(self, table: pa.Table, place: str = "passages"):
        """Wrap a table with the columns of `SCHEMA`; `place` is what error messages call it.

        A missing `source_ids` makes each passage its own source, a missing `title` is "".

        Raises:
            KnowledgeBaseError: `id` or `text` is missing, or a column is of another type.
        """
        self.table = _conform(table, place)
        self.place = place
        self._columns = [self.table.column(name) for name in SCHEMA.names]
        self._batches = self.table.to_batches()
        self._starts = np.cumsum([0, *(len(batch) for batch in self._batches)])

    @classmethod
    def open(cls, path: str | Path) -> "Passages":
        """Open a Parquet file, or map an Arrow one (`.arrow`) into memory.

        Raises:
            StorageError: nothing is there.
            UnavailableError: it cannot be read now.
            KnowledgeBaseError: it is broken, or lacks a column.
        """
        try:
            if Path(path).suffix == ".arrow":
                table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
            else:
                table = pq.read_table(str(path), memory_map=True)
        except FileNotFoundError as error:
            raise StorageError(f"{path}: no such file; split_passages writes it") from error
        except (OSError, pa.ArrowInvalid) as error:
            raise_if_unavailable(path, error)
            raise KnowledgeBaseError(
                f"{path}: cannot be read as passages ({error}); let split_passages write it again"
            ) from error
        return cls(table, str(path))

    def save(self, path: str | Path) -> None:
        """Write them as Arrow (`.arrow`, to be mapped) or Parquet (any other suffix), whole or not at all."""
        with atomic_path(path) as temporary:
            if Path(path).suffix == ".arrow":
                with pa.OSFile(str(temporary), "wb") as stream, pa.ipc.new_file(stream, SCHEMA) as writer:
                    writer.write_table(self.table)
            else:
                pq.write_table(self.table, temporary)

    def __len__(self) -> int:
        return self.table.num_rows

    @overload
    def __getitem__(self, row: int) -> Passage: ...
    @overload
    def __getitem__(self, row: slice) -> list[Passage]: ...
    def __getitem__(self, row: int | slice) -> Passage | list[Passage]:
        """One passage, or a list of them for a slice; a row may be a NumPy integer."""
        if isinstance(row, slice):
            return [self[index] for index in range(*row.indices(len(self)))]
        identifier, title, text, source_ids = (column[int(row)].as_py() for column in self._columns)
        return Passage(identifier, title, text, tuple(source_ids))

    def __iter__(self) -> Iterator[Passage]:
        for batch in self.table.to_batches(max_chunksize=1024):
            for identifier, title, text, source_ids in zip(*(c.to_pylist() for c in batch.columns), strict=True):
                yield Passage(identifier, title, text, tuple(source_ids))

    def take(self, rows: Rows) -> "Passages":
        """Some of them, in a table of their own.

        Args:
            rows: in ascending order.
        """
        # Batch by batch: `pa.Table.take` joins the chunks of a column, and a join of strings ends at 2 GiB.
        of_batch = np.searchsorted(self._starts, rows, side="right") - 1
        parts = [self._batches[n].take(pa.array(rows[of_batch == n] - self._starts[n])) for n in np.unique(of_batch)]
        return Passages(pa.Table.from_batches(parts, SCHEMA), self.place)

    @cached_property
    def ids(self) -> list[str]:
        """The id of every row."""
        return self.table.column("id").to_pylist()

    def rows_of(self, identifiers: Sequence[str] | npt.NDArray[np.object_]) -> Rows:
        """The rows that hold some passages, (len(identifiers),) int64; -1 where there is no such passage."""
        return self._index.rows(hash_array(map(id_digest, identifiers), len(identifiers)))

    def row_of(self, identifier: str) -> int:
        """The row that holds a passage.

        Raises:
            KnowledgeBaseError: there is no such passage.
        """
        if self.duplicate_ids:
            raise KnowledgeBaseError(
                f"{self.place}: {self.duplicate_ids:,} ids occur more than once; let split_passages write it again"
            )
        (row,) = self.rows_of([identifier])
        if row < 0:
            raise KnowledgeBaseError(
                f'{self.place}: no passage has the id "{identifier}"; do questions and passages belong together?'
            )
        return int(row)

    @cached_property
    def duplicate_ids(self) -> int:
        """Number of rows whose id an earlier one has."""
        return len(self) - self._index.distinct

    @cached_property
    def text_sizes(self) -> Rows:
        """Bytes of every row's text, (rows,) int64."""
        return pc.binary_length(self.table.column("text")).to_numpy().astype(np.int64)

    @cached_property
    def longest_text(self) -> tuple[int, int]:
        """The row with the longest id, title or text, and its length in bytes."""
        lengths = [pc.binary_length(self.table.column(name)).to_numpy() for name in ("id", "title", "text")]
        longest = np.max(lengths, axis=0)
        row = int(longest.argmax())
        return row, int(longest[row])

    @cached_property
    def content_hashes(self) -> Hashes:
        """128 bits of every row: equal for two passages with the same title and text, whatever their ids."""
        batches = self.table.select(["title", "text"]).to_batches(max_chunksize=1024)
        pairs = (pair for batch in batches for pair in zip(*(c.to_pylist() for c in batch.columns), strict=True))
        return hash_array((content_digest(title, text) for title, text in pairs), len(self))

    def names_any(self, source_ids: Iterable[str]) -> bool:
        """Tell whether some passage has one of these among its `source_ids`."""
        wanted = pa.array(sorted(set(source_ids)), pa.string())
        sources = self.table.column("source_ids")
        return any(pc.any(pc.is_in(chunk.flatten(), value_set=wanted)).as_py() for chunk in sources.chunks)

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 over ids, titles, texts and source ids, in order, as 64 hex digits."""
        digest = hashlib.sha256()
        for passage in self:
            digest.update(_delimited(passage.id, passage.title, passage.text, *passage.source_ids))
        return digest.hexdigest()

    @cached_property
    def _index(self) -> HashIndex:
        batches = self.table.select(["id"]).to_batches(max_chunksize=1024)
        identifiers = (identifier for batch in batches for identifier in batch.column(0).to_pylist())
        return HashIndex(hash_array(map(id_digest, identifiers), len(self)))


def write_passages(passages: Iterator[Passage], path: Path) -> None:
    """Stream passages into a Parquet file."""
    with pq.ParquetWriter(path, SCHEMA) as writer:
        while rows := list(islice(passages, _ROWS_PER_GROUP)):
            columns = zip(*((row.id, row.title, row.text, list(row.source_ids)) for row in rows), strict=True)
            writer.write_batch(pa.record_batch([list(column) for column in columns], SCHEMA))


def passage_hash(title: str, text: str) -> str:
    """128 bits of BLAKE2b over title and text, as 32 hex digits: what an embedding depends on."""
    return content_digest(title, text).hex()


def content_digest(title: str, text: str) -> bytes:
    """The 16 bytes of `passage_hash`."""
    return hashlib.blake2b(_delimited(title, text), digest_size=HASH_BYTES).digest()


def id_digest(identifier: str) -> bytes:
    """128 bits of BLAKE2b over an id."""
    return hashlib.blake2b(identifier.encode(), digest_size=HASH_BYTES).digest()


def _delimited(*parts: str) -> bytes:
    """With lengths, so that ("ab", "c") differs from ("a", "bc")."""
    return "".join(f"{len(part)}:{part}" for part in (str(len(parts)), *parts)).encode("utf-8")


def _conform(table: pa.Table, place: str) -> pa.Table:
    for name in ("id", "text"):
        if name not in table.column_names:
            raise KnowledgeBaseError(
                f'{place}: no column "{name}" among {table.column_names}; is this what split_passages wrote?'
            )
    if "title" not in table.column_names:
        table = table.append_column("title", pa.array([""] * len(table), pa.string()))
    if "source_ids" not in table.column_names:
        table = table.append_column("source_ids", _own_sources(table.column("id")))
    try:
        table = table.select(SCHEMA.names).cast(SCHEMA)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise KnowledgeBaseError(f"{place}: a column is not of the type that passages need: {error}") from error
    for name in ("id", "text", "source_ids"):
        if empty := table.column(name).null_count:
            raise KnowledgeBaseError(f'{place}: {empty:,} rows have no "{name}"; let split_passages write it again')
    return table.set_column(1, "title", pc.fill_null(table.column("title"), ""))


def _own_sources(ids: pa.ChunkedArray) -> pa.ChunkedArray:
    def one_each(chunk: pa.Array) -> pa.Array:
        return pa.ListArray.from_arrays(np.arange(len(chunk) + 1, dtype=np.int32), chunk.cast(pa.string()))

    return pa.chunked_array([one_each(chunk) for chunk in ids.chunks], pa.list_(pa.string()))
