"""The knowledge base: passages and their vectors, written through Feast into Milvus, and searched in batches."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from ragtune.errors import KnowledgeBaseError, StorageError, UnavailableError
from ragtune.knowledge.damage import damaged_files
from ragtune.knowledge.exact import ranked
from ragtune.knowledge.feature_repo import (
    OFFLINE_SOURCE,
    REPAIR,
    batched_store,
    open_feature_store,
    registered_view,
)
from ragtune.knowledge.ingestion import remove_version
from ragtune.knowledge.leases import Reading
from ragtune.knowledge.manifest import PASSAGES, Manifest, check_encoder, version_folders
from ragtune.knowledge.milvus import collector_paused
from ragtune.knowledge.offline_source import count_rows
from ragtune.knowledge.passages import Passages
from ragtune.knowledge.pointers import Pointer, resolve
from ragtune.knowledge.retrieved import PADDING_ROW, PassageEncoder, Retrieved
from ragtune.knowledge.vectors import MEAN, VECTORS, read_mean, read_vectors
from ragtune.knowledge.workspace import CHUNK_ROWS, ingest_alone

_QUERIES_PER_CALL = 512
_CALLS_AT_ONCE = 2
_FLOATS_PER_CALL = 8_000_000  # of stored vectors in one answer of Milvus, 32 MB


class KnowledgeBase:
    """One version of a knowledge base, open; a context manager. It stays that version, whatever is served by now.

    Attributes:
        folder: of the version.
        manifest: of what, and made with which encoder.
        passages: by row, as `search` names them.
    """

    def __init__(self, folder: Path, manifest: Manifest, reading: Reading, token: str = "", uri: str = ""):
        """Connect; `open` is the way in."""
        self._reading = reading
        self.folder = folder
        self.manifest = manifest
        try:
            self.passages = Passages.open(folder / PASSAGES)
        except UnavailableError:
            raise
        except (StorageError, KnowledgeBaseError) as error:
            raise KnowledgeBaseError(f"{folder}: {PASSAGES} is missing or broken; {REPAIR}") from error
        if count_rows(folder / OFFLINE_SOURCE) != manifest.rows:  # Feast's; nothing else here reads it
            raise KnowledgeBaseError(f"{folder}: {OFFLINE_SOURCE} is missing or broken; {REPAIR}")
        self._store = open_feature_store(folder, token)
        if uri:
            self._store.config.online_store.uri = uri
        self._online = batched_store(self._store)
        self._vectors = read_vectors(folder, manifest.rows, manifest.dimension)
        self._mean = read_mean(folder)
        if self._mean is None and MEAN in manifest.checksums:
            raise KnowledgeBaseError(f"{folder}: {MEAN} is missing; {REPAIR}")
        try:
            self._view = registered_view(self._store, manifest.version)
            self._check_rows()
            self.search(np.zeros((1, manifest.dimension), np.float32), 1)  # loads the index
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(
        cls, place: str | Path | Pointer, *, encoder_fingerprint: str = "", token: str = "", uri: str = ""
    ) -> "KnowledgeBase":
        """Open a version that `ingest_passages` made, with its index loaded.

        Args:
            place: the knowledge base's folder, for the version that is served now; a pointer to a version, or a folder
                that holds one (`write_pointer`); or a version's own folder.
            encoder_fingerprint: of the encoder that will ask; "" asks nothing.
            token: for a Milvus server; "" takes the environment variable RAGTUNE_MILVUS_TOKEN, if it is set.
            uri: reach Milvus there instead of where feature_store.yaml says, such as an embedded database that
                `milvus-lite server --host 127.0.0.1` serves to several processes.

        Raises:
            KnowledgeBaseError: there is none, it is not whole, was made with another encoder, is open in another
                process, or Milvus cannot be reached or refuses the token.
        """
        folder, manifest = resolve(place)
        check_encoder(folder, manifest, encoder_fingerprint)
        reading = Reading(folder)
        try:
            resolve(folder)  # again: what is still there now stays
            return cls(folder, manifest, reading, token, uri)
        except BaseException:
            reading.release()
            raise

    def search(self, queries: npt.NDArray[np.float32], k: int) -> Retrieved:
        """The best k passages for each query by inner product.

        Args:
            queries: (B, d) vectors of the encoder's other half; any B, 0 and 1 too.
            k: passages per query; more than there are gives padding.

        Raises:
            KnowledgeBaseError: the queries have another dimension, k is not possible, or Milvus does not answer.
        """
        self._reading.renew()
        queries = np.asarray(queries, dtype=np.float32)
        at_once = max(1, min(_QUERIES_PER_CALL, _FLOATS_PER_CALL // (max(k, 1) * self.manifest.dimension)))
        starts = range(0, max(len(queries), 1), at_once)
        # One call's vectors are compared while another's answer is put together.
        with collector_paused(), ThreadPoolExecutor(_CALLS_AT_ONCE) as pool:
            found = list(pool.map(lambda start: self._search(queries[start : start + at_once], k), starts))
        return Retrieved(
            rows=np.concatenate([part.rows for part in found]),
            scores=np.concatenate([part.scores for part in found]),
            embeddings=np.concatenate([part.embeddings for part in found]),
        )

    def close(self) -> None:
        """Let go of Milvus; an embedded database can then be opened by another process."""
        self._online.disconnect()
        self._reading.release()

    def __enter__(self) -> "KnowledgeBase":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_rows(self) -> None:
        config = self._store.config
        self._online.connect(config)
        try:
            rows = self._online.count(config, self._view)
        except KnowledgeBaseError as error:
            if config.online_store.uri:
                raise
            raise KnowledgeBaseError(f"{error}; {REPAIR}") from error
        if rows != self.manifest.rows:
            held = "no such collection" if rows < 0 else f"{rows:,} rows"
            raise KnowledgeBaseError(
                f"{self.folder}: has {self.manifest.rows:,} rows, but Milvus holds {held}; {REPAIR}"
            )

    def _search(self, queries: npt.NDArray[np.float32], k: int) -> Retrieved:
        ids, scores, _ = self._online.search_batch(self._store.config, self._view, queries, k, with_embeddings=False)
        rows = self.passages.rows_of(ids.ravel()).reshape(ids.shape)
        rows[ids == ""] = PADDING_ROW
        if len(unknown := ids[(rows == PADDING_ROW) & (ids != "")]):
            raise self._changed(f'found "{unknown[0]}", which {PASSAGES} does not hold')
        found = ranked(queries, rows, self._vectors)
        # Milvus' own scores, where they are those of our vectors, tell that ours are its vectors.
        expected = found.scores if self._mean is None else found.scores - (queries @ self._mean)[:, None]
        if not np.allclose(scores[rows != PADDING_ROW], expected[found.mask], rtol=1e-3, atol=1e-3):
            if damaged := damaged_files(self.folder, self.manifest.checksums):
                raise KnowledgeBaseError(
                    f"{self.folder}: Milvus holds other vectors than {VECTORS}; damaged: {', '.join(damaged)}; {REPAIR}"
                )
            raise self._changed(f"holds other vectors than {VECTORS}")
        return found

    def _changed(self, how: str) -> KnowledgeBaseError:
        return KnowledgeBaseError(
            f"{self.folder}: Milvus {how}; the knowledge base was changed while it was open. Open it again"
        )


def ingest_passages(
    passages_path: str | Path,
    folder: str | Path,
    encoder: PassageEncoder,
    *,
    uri: str = "",
    token: str = "",
    name: str = "passages",
    index: str = "auto",
    embedding_cache: str | Path = "",
    chunk_rows: int = CHUNK_ROWS,
) -> Manifest:
    """Serve passages from a knowledge base: from the version that holds them already, or from a new one.

    A version holds one corpus, embedded with one encoder, and never changes. A new one is written beside those that are
    there, whose readers go on, from vectors that all versions share: only passages that were never embedded with this
    encoder are. It is served once it is verified. A killed ingestion resumes when it is run again, and a version that
    has lost files or rows, or whose files hold other bytes than were written, is repaired in its place; so are those of
    the same passages and encoder with another index or precision. Another process that ingests into the same folder is
    waited for.

    Args:
        passages_path: what `split_passages` wrote.
        folder: the knowledge base's.
        encoder: makes the passages' vectors.
        uri: of a Milvus server; "" keeps everything in `folder` (Milvus Lite).
        token: for the server; "" takes the environment variable RAGTUNE_MILVUS_TOKEN. Never written to disk.
        name: of the knowledge base in Feast and Milvus: letters, digits and _.
        index: "HNSW", a graph; "FLAT", which compares each question with every vector; or "auto": FLAT where there are
            at most 8 million floats of vectors. A graph that finds too little is replaced by a stronger one, in the end
            by FLAT.
        embedding_cache: folder for vectors by content and encoder; "" is `embeddings` in `folder`.
        chunk_rows: rows that are written at once.

    Returns:
        The manifest of what is served now.

    Raises:
        KnowledgeBaseError: nothing to ingest, a parameter is not possible, the disk is full, Milvus cannot be reached
            or refuses the token, or what was written cannot be found again. What was served before is served still.
    """
    return ingest_alone(
        passages_path, Path(folder), encoder, uri, token, name, index, embedding_cache, chunk_rows
    ).manifest


def drop_knowledge_base(folder: str | Path, token: str = "") -> None:
    """Remove a knowledge base for good, all its versions and embeddings.

    Raises:
        KnowledgeBaseError: a version's Milvus server cannot be reached; the folder then still stands.
    """
    for version in version_folders(Path(folder)):
        remove_version(version, token)
    shutil.rmtree(folder, ignore_errors=True)
