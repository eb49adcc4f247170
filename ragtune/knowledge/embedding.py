"""Passages' vectors, each computed once: a cache on disk by content and encoder."""

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ragtune.errors import KnowledgeBaseError
from ragtune.files import atomic_path
from ragtune.knowledge.hashes import HASH_BYTES, Hashes, HashIndex, Rows, first_rows, hex_digits
from ragtune.knowledge.passages import Passages
from ragtune.knowledge.retrieved import PassageEncoder, RemoteEncoder
from ragtune.progress import progress

logger = logging.getLogger(__name__)

EMBEDDINGS = "embeddings"  # the cache's folder in that of a knowledge base
_ROWS_PER_CALL = 512  # of the encoder, at first; twice as many after each call that took less than:
_SECONDS_PER_CALL = 5.0
_ROWS_PER_FILE = 65_536
_SECONDS_PER_FILE = 20.0  # what is lost, at most, when the process is killed
_SORTED_AT_ONCE = 65_536  # by length: few enough that they lie close together on disk

Vectors = npt.NDArray[np.float32]


class CachedVectors:
    """Vectors by row, (rows, d) float32, that stay on disk and are gathered as they are asked for."""

    def __init__(self, files: Sequence[Vectors], file: npt.NDArray[np.int32], place: npt.NDArray[np.int32], d: int):
        """Row i is `files[file[i]][place[i]]`."""
        self._files, self._file, self._place = files, file, place
        self.shape = (len(place), d)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | Rows) -> Vectors:
        file, place = self._file[rows], self._place[rows]
        found = np.empty((len(place), self.shape[1]), np.float32)
        for number in np.unique(file):
            here = file == number
            found[here] = self._files[number][place[here]]
        return found


class EmbeddingCache:
    """Vectors of one encoder, by content: a folder of Arrow files that are written whole and never changed."""

    def __init__(self, folder: str | Path, encoder_fingerprint: str, dimension: int, precision: str = "float32"):
        """Read which vectors are there; the vectors themselves stay on disk, mapped into memory.

        Args:
            folder: for all encoders; each has its own folder in it.
            encoder_fingerprint: of the encoder.
            dimension: d, of its vectors.
            precision: that it computes in. Vectors of another one are near, but not equal, and have their own folder.
        """
        self.folder = Path(folder) / f"{_folder_of(encoder_fingerprint)}-{precision}"
        self.dimension = dimension
        self._files: list[Vectors] = []
        self._hashes: list[Hashes] = []  # of each file
        self._index: HashIndex | None = None
        for path in sorted(self.folder.glob("*.arrow")):
            try:
                self._add(path)
            except (OSError, pa.ArrowInvalid, KeyError, ValueError) as error:
                logger.warning("%s: is no file of vectors (%s); its passages are embedded again", path, error)

    def __len__(self) -> int:
        return sum(map(len, self._hashes))

    def missing(self, hashes: Hashes) -> Rows:
        """The rows of hashes, each hash once, whose vectors are not there."""
        rows = first_rows(hashes)
        return rows[self._rows(hashes[rows]) < 0]

    def vectors(self, hashes: Hashes) -> CachedVectors:
        """The vectors of some passages, (len(hashes), d); `[:]` reads them all.

        Raises:
            KeyError: one is not there.
        """
        rows = self._rows(hashes)
        if (rows < 0).any():
            raise KeyError(hex_digits(hashes[rows < 0][:1])[0])
        starts = np.cumsum([0, *map(len, self._hashes)])
        file = np.searchsorted(starts, rows, side="right") - 1
        return CachedVectors(self._files, file.astype(np.int32), (rows - starts[file]).astype(np.int32), self.dimension)

    def add(self, hashes: Hashes, vectors: Vectors) -> None:
        """Keep vectors, (n, d), in one more file.

        Raises:
            StorageError: it cannot be written, say for a full disk.
        """
        # Named by content, so that two processes that embed the same write the same file.
        first, last = hex_digits(hashes[[0, -1]])
        path = self.folder / f"{first}-{last}-{len(hashes)}.arrow"
        keys = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(HASH_BYTES), len(hashes), [None, pa.py_buffer(np.ascontiguousarray(hashes))]
        )
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), self.dimension)
        table = pa.table({"content_hash": keys, "vector": column})
        with (
            atomic_path(path) as temporary,
            pa.OSFile(str(temporary), "wb") as stream,
            pa.ipc.new_file(stream, table.schema) as writer,
        ):
            writer.write_table(table)
        self._add(path)

    def _add(self, path: Path) -> None:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all().combine_chunks()
        flat = table["vector"].chunk(0).flatten().to_numpy()
        vectors = flat.reshape(len(table), self.dimension)
        keys = table["content_hash"].chunk(0)
        if keys.type != pa.binary(HASH_BYTES):
            raise ValueError(f"its hashes are {keys.type}")
        hashes = np.frombuffer(keys.buffers()[1], f"S{HASH_BYTES}", len(table))
        self._files.append(vectors)
        self._hashes.append(hashes)
        self._index = None

    def _rows(self, hashes: Hashes) -> Rows:
        """The rows in all files one after the other, -1 where it is not there."""
        if self._index is None:
            self._index = HashIndex(np.concatenate([np.empty(0, f"S{HASH_BYTES}"), *self._hashes]))
        return self._index.rows(hashes)


def share_vectors(folder: Path, encoder_fingerprint: str) -> None:
    """Link an encoder's vectors that the knowledge bases beside one have into its own cache; they share the disk.

    A training that moves the passage encoder leaves a knowledge base of its own behind. The run that starts from that
    model then embeds only what has changed since.

    Args:
        folder: of the knowledge base.
        encoder_fingerprint: of the encoder.
    """
    for path in folder.parent.glob(f"*/{EMBEDDINGS}/{_folder_of(encoder_fingerprint)}-*/*.arrow"):
        target = folder / EMBEDDINGS / path.parent.name / path.name
        with contextlib.suppress(OSError):  # it is there, or the file system has no links: it is embedded again
            target.parent.mkdir(parents=True, exist_ok=True)
            target.hardlink_to(path)


def embed_missing(passages: Passages, encoder: PassageEncoder, cache: EmbeddingCache, path: Path | None = None) -> int:
    """Embed the passages whose vectors the cache does not hold.

    What was embedded is on disk every few seconds, so that a killed process loses little.

    Args:
        passages: to embed.
        encoder: asked for batches of them; a `RemoteEncoder` reads them itself.
        cache: gets the vectors.
        path: of a file that holds them, for a `RemoteEncoder`.

    Returns:
        How many texts were embedded; equal ones count once.

    Raises:
        KnowledgeBaseError: the encoder's vectors have another shape than it says, or are not finite.
        StorageError: they cannot be written.
    """
    missing = cache.missing(passages.content_hashes)
    # Texts of one length share a call, so that little is computed for padding.
    lengths = passages.text_sizes[missing]
    todo = missing[np.lexsort((lengths, np.arange(len(missing)) // _SORTED_AT_ONCE))]
    if isinstance(encoder, RemoteEncoder) and path and len(todo):
        embedded = encoder.encode_rows(path, passages, todo)
    else:
        embedded = _encoded(encoder, passages, todo)
    shown = progress(todo, "embedding", unit="passages")
    rows: list[Rows] = []
    vectors: list[Vectors] = []
    saved, done = time.monotonic(), 0
    for part, found in embedded:
        _check(encoder, passages, part, found, cache.dimension)
        rows.append(part)
        vectors.append(found)
        done += len(part)
        for _ in part:
            next(shown)
        now = time.monotonic()
        if sum(map(len, rows)) >= _ROWS_PER_FILE or now - saved > _SECONDS_PER_FILE or done == len(todo):
            cache.add(passages.content_hashes[np.concatenate(rows)], np.concatenate(vectors))
            rows, vectors, saved = [], [], time.monotonic()
    next(shown, None)
    return len(todo)


def _folder_of(encoder_fingerprint: str) -> str:
    return encoder_fingerprint[:32]


def _encoded(encoder: PassageEncoder, passages: Passages, todo: Rows) -> Iterator[tuple[Rows, Vectors]]:
    """Rows and their vectors, call by call."""
    start, size = 0, _ROWS_PER_CALL
    while start < len(todo):
        part = np.sort(todo[start : start + size])
        began = time.monotonic()
        vectors = np.ascontiguousarray(encoder.encode_passages(list(passages.take(part))), dtype=np.float32)
        if time.monotonic() - began < _SECONDS_PER_CALL:
            size = min(2 * size, _ROWS_PER_FILE)
        start += len(part)
        yield part, vectors


def _check(encoder: PassageEncoder, passages: Passages, rows: Rows, vectors: Vectors, dimension: int) -> None:
    if vectors.shape != (len(rows), dimension):
        raise KnowledgeBaseError(
            f"{encoder.name}: gave vectors of shape {vectors.shape} for {len(rows)} passages, "
            f"but says that its dimension is {dimension}"
        )
    broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(broken):
        raise KnowledgeBaseError(
            f'{encoder.name}: its vector for passage "{passages[int(rows[broken[0]])].id}" is not finite '
            f"({len(broken)} such in {len(rows)}); is the checkpoint whole, or its precision too low?"
        )


def slices(length: int, size: int) -> Iterator[slice]:
    """0:size, size:2·size, … up to `length`."""
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))
