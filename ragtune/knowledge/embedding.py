"""Passages' vectors, each computed once: a cache on disk by content and encoder."""

import logging
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ragtune.errors import KnowledgeBaseError
from ragtune.files import atomic_path
from ragtune.knowledge.passages import Passage, Passages
from ragtune.knowledge.retrieved import PassageEncoder
from ragtune.progress import progress

logger = logging.getLogger(__name__)

_ROWS_PER_CALL = 512  # of the encoder: enough to sort by length within, few enough to show progress
_ROWS_PER_FILE = 8192
_SECONDS_PER_FILE = 20.0  # what is lost, at most, when the process is killed

Vectors = npt.NDArray[np.float32]


class EmbeddingCache:
    """Vectors of one encoder, by `passage_hash`: a folder of Arrow files that are written whole and never changed."""

    def __init__(self, folder: str | Path, encoder_fingerprint: str, dimension: int):
        """Read which vectors are there; the vectors themselves stay on disk, mapped into memory.

        Args:
            folder: for all encoders; each has its own folder in it.
            encoder_fingerprint: of the encoder.
            dimension: d, of its vectors.
        """
        self.folder = Path(folder) / encoder_fingerprint[:32]
        self.dimension = dimension
        self._files: list[Vectors] = []
        self._places: dict[str, tuple[int, int]] = {}  # hash → file, row
        for path in sorted(self.folder.glob("*.arrow")):
            try:
                self._add(path)
            except (OSError, pa.ArrowInvalid, KeyError, ValueError) as error:
                logger.warning("%s: is no file of vectors (%s); its passages are embedded again", path, error)

    def __contains__(self, content_hash: str) -> bool:
        return content_hash in self._places

    def __len__(self) -> int:
        return len(self._places)

    def vectors(self, content_hashes: Sequence[str]) -> Vectors:
        """The vectors of some passages, (len(content_hashes), d); KeyError where one is not there."""
        found = np.empty((len(content_hashes), self.dimension), np.float32)
        for row, content_hash in enumerate(content_hashes):
            file, place = self._places[content_hash]
            found[row] = self._files[file][place]
        return found

    def add(self, content_hashes: Sequence[str], vectors: Vectors) -> None:
        """Keep vectors, (n, d), in one more file.

        Raises:
            StorageError: it cannot be written, say for a full disk.
        """
        # Named by content, so that two processes that embed the same write the same file.
        path = self.folder / f"{content_hashes[0]}-{content_hashes[-1]}-{len(content_hashes)}.arrow"
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), self.dimension)
        table = pa.table({"content_hash": pa.array(content_hashes, pa.string()), "vector": column})
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
        for row, content_hash in enumerate(table["content_hash"].to_pylist()):
            self._places[content_hash] = (len(self._files), row)
        self._files.append(vectors)


def embed_missing(passages: Passages, encoder: PassageEncoder, cache: EmbeddingCache) -> int:
    """Embed the passages whose vectors the cache does not hold, in order of their length.

    What was embedded is on disk every few seconds, so that a killed process loses little.

    Returns:
        How many texts were embedded; equal ones count once.

    Raises:
        KnowledgeBaseError: the encoder's vectors have another shape than it says, or are not finite.
        StorageError: they cannot be written.
    """
    missing = {hash_: row for row, hash_ in enumerate(passages.content_hashes) if hash_ not in cache}
    # Texts of one length share a call, so that little is computed for padding.
    lengths = {row: len(passages[row].text) for row in missing.values()}
    todo = sorted(missing.items(), key=lambda item: lengths[item[1]])
    hashes: list[str] = []
    vectors: list[Vectors] = []
    saved = time.monotonic()
    rows = progress(todo, "embedding", total=len(todo), unit="passages")
    while part := list(islice(rows, _ROWS_PER_CALL)):
        vectors.append(_encode(encoder, [passages[row] for _, row in part], cache.dimension))
        hashes += [content_hash for content_hash, _ in part]
        if len(hashes) >= _ROWS_PER_FILE or time.monotonic() - saved > _SECONDS_PER_FILE:
            cache.add(hashes, np.concatenate(vectors))
            hashes, vectors, saved = [], [], time.monotonic()
    if hashes:
        cache.add(hashes, np.concatenate(vectors))
    return len(todo)


def _encode(encoder: PassageEncoder, passages: Sequence[Passage], dimension: int) -> Vectors:
    vectors = np.ascontiguousarray(encoder.encode_passages(passages), dtype=np.float32)
    if vectors.shape != (len(passages), dimension):
        raise KnowledgeBaseError(
            f"{encoder.name}: gave vectors of shape {vectors.shape} for {len(passages)} passages, "
            f"but says that its dimension is {dimension}"
        )
    broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(broken):
        raise KnowledgeBaseError(
            f'{encoder.name}: its vector for passage "{passages[broken[0]].id}" is not finite '
            f"({len(broken)} such in {len(passages)}); is the checkpoint whole, or its precision too low?"
        )
    return vectors


def slices(length: int, size: int) -> Iterator[slice]:
    """0:size, size:2·size, … up to `length`."""
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))
