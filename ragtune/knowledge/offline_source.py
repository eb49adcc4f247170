"""Feast's offline source of a version: a folder of Parquet parts, of which versions share those that are equal.

The parts hold the passages in their order. Where one ends follows from the content of its last passage alone, so that a
changed passage changes its own part, and the others are hard links to an earlier version's. A part is named by its
number, what it holds, and the checksum of its bytes: 000007-<digest>-<checksum>.parquet.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ragtune.errors import StorageError
from ragtune.files import atomic_path, content_hash
from ragtune.knowledge.damage import raise_if_unavailable
from ragtune.knowledge.embedding import EmbeddingCache
from ragtune.knowledge.hashes import HASH_BYTES, Hashes, hex_digits
from ragtune.knowledge.passages import Passages

_ROWS_PER_PART = 4096  # on average
_MOST_ROWS_PER_PART = 4 * _ROWS_PER_PART
_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("title", pa.string()),
        ("text", pa.string()),
        ("content_hash", pa.string()),
        ("embedding", pa.list_(pa.float32())),
        ("event_timestamp", pa.timestamp("us", tz="UTC")),
    ]
)


def write_offline_source(
    path: Path, passages: Passages, cache: EmbeddingCache, timestamp: str, earlier: Iterable[Path] = ()
) -> int:
    """Write every feature of every passage.

    Args:
        path: the folder to write, whole or not at all.
        passages: in the order of the rows.
        cache: holds all their vectors.
        timestamp: event timestamp, ISO 8601, of rows in new parts; a linked part's rows keep theirs.
        earlier: offline sources whose parts are linked where they are equal.

    Returns:
        How many parts were written; the others are links.

    Raises:
        StorageError: the disk is full or may not be written.
    """
    known = {_digest_of(part): part for source in earlier for part in _parts(source)}
    written = 0
    with atomic_path(path) as temporary:
        temporary.mkdir()
        for number, rows in enumerate(_bounds(passages.content_hashes)):
            table = passages.table.slice(rows.start, rows.stop - rows.start)
            digest = _digest(table, passages.content_hashes[rows], cache)
            if not _link(known.get(digest), temporary, number, len(table)):
                part = temporary / "part"
                _write(part, table, passages.content_hashes[rows], cache, timestamp)
                part.rename(temporary / f"{number:06d}-{digest}-{_checksum(part)}.parquet")
                written += 1
    return written


def count_rows(path: Path) -> int:
    """Number of rows that its parts say they hold; -1 where one is broken.

    Raises:
        UnavailableError: one cannot be read now.
    """
    rows = 0
    for part in _parts(path):
        try:
            rows += pq.read_metadata(part).num_rows
        except (OSError, pa.ArrowException) as error:
            raise_if_unavailable(part, error)
            return -1
    return rows


def parts_are_whole(path: Path) -> bool:
    """False where a part holds other bytes than were written; all of them are read.

    Raises:
        StorageError: one cannot be read.
    """
    return all(map(_is_whole, _parts(path)))


def _parts(path: Path) -> list[Path]:
    return sorted(path.glob("*.parquet"))


def _digest_of(part: Path) -> str:
    return part.stem.split("-")[1]


def _is_whole(part: Path) -> bool:
    """True also for a part of an earlier ragtune, whose name has no checksum."""
    _, _, *checksum = part.stem.split("-")
    return not checksum or checksum == [_checksum(part)]


def _checksum(part: Path) -> str:
    return content_hash(part)[: 2 * HASH_BYTES]


def _bounds(hashes: Hashes) -> Iterator[slice]:
    """Slices of all rows. The last row of each is one whose hash says so, or the last one that still fits."""
    first_bytes = hashes.view(np.uint32).reshape(len(hashes), HASH_BYTES // 4)[:, 0]
    ends = np.append(np.flatnonzero(first_bytes % _ROWS_PER_PART == 0) + 1, len(hashes))
    start = 0
    for end in ends.tolist():
        while start < end:
            stop = min(end, start + _MOST_ROWS_PER_PART)
            yield slice(start, stop)
            start = stop


def _digest(table: pa.Table, hashes: Hashes, cache: EmbeddingCache) -> str:
    """32 hex digits of all that a part holds, but for the timestamp: ids, contents, and what made the vectors."""
    digest = hashlib.blake2b(f"{cache.folder.name} {cache.dimension} {len(table)}\n".encode(), digest_size=HASH_BYTES)
    digest.update(hashes.tobytes())
    for identifier in table.column("id").to_pylist():
        digest.update(f"{len(identifier)}:{identifier}".encode())
    return digest.hexdigest()


def _link(known: Path | None, folder: Path, number: int, rows: int) -> bool:
    """Link a part that is whole; False where there is none, or the volume has no hard links."""
    try:
        if known is None or not _is_whole(known) or pq.read_metadata(known).num_rows != rows:
            return False
        os.link(known, folder / f"{number:06d}-{known.name.partition('-')[2]}")
    except (OSError, StorageError, pa.ArrowException):
        return False
    return True


def _write(part: Path, table: pa.Table, hashes: Hashes, cache: EmbeddingCache, timestamp: str) -> None:
    vectors = cache.vectors(hashes)[:]
    offsets = pa.array(np.arange(0, vectors.size + 1, cache.dimension, dtype=np.int32))
    columns = [
        *(table.column(name) for name in ("id", "title", "text")),
        pa.array(hex_digits(hashes), pa.string()),
        pa.ListArray.from_arrays(offsets, pa.array(vectors.ravel())),
        pa.array([datetime.fromisoformat(timestamp)] * len(table), _SCHEMA.field("event_timestamp").type),
    ]
    pq.write_table(pa.table(columns, schema=_SCHEMA), part)
