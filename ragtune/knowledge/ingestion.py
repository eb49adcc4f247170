"""Make a version of a knowledge base from a file of passages, resume one, or repair one; then serve it."""

import contextlib
import errno
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ragtune.errors import KnowledgeBaseError, RagtuneError, StorageError, TakenError, UnavailableError
from ragtune.files import remove_folder
from ragtune.knowledge import ledger
from ragtune.knowledge.claims import claimed
from ragtune.knowledge.damage import checksums_of, damaged_files
from ragtune.knowledge.embedding import embed_missing
from ragtune.knowledge.feast_names import FeatureStore, FeatureView
from ragtune.knowledge.feature_repo import (
    OFFLINE_SOURCE,
    batched_store,
    index_of,
    milvus_uri_of,
    open_feature_store,
    passages_view,
    write_feature_repo,
)
from ragtune.knowledge.index import first_index
from ragtune.knowledge.indexing import Built
from ragtune.knowledge.integrity import files_are_intact, rows_are_intact
from ragtune.knowledge.leases import LEASES
from ragtune.knowledge.manifest import (
    BUILDING,
    EMBEDDED_DATABASE,
    MANIFEST,
    PASSAGES,
    REPAIRING,
    UNFINISHED,
    Manifest,
    now,
    read_manifest,
    read_served,
    serve,
    version_folders,
    version_number,
    whole_versions,
    write_manifest,
)
from ragtune.knowledge.milvus import check_no_other_owner, is_open_elsewhere
from ragtune.knowledge.offline_source import write_offline_source
from ragtune.knowledge.online_store import BatchedMilvusOnlineStore
from ragtune.knowledge.passages import Passages
from ragtune.knowledge.rows import Rows
from ragtune.knowledge.vectors import MEAN, VECTORS, read_mean, read_vectors, write_mean, write_vectors
from ragtune.knowledge.wanted import Wanted
from ragtune.locks import locked

logger = logging.getLogger(__name__)

_LOCK = ".ingestion.lock"
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
_LONGEST_TEXT_BYTES = 65_535  # Milvus' longest string


@dataclass(frozen=True)
class Ingestion:
    """The outcome of an ingestion.

    Attributes:
        manifest: of the version that is served now.
        written: rows written to Milvus.
        embedded: texts that the encoder was asked for.
        built: the index; None where it was there.
    """

    manifest: Manifest
    written: int = 0
    embedded: int = 0
    built: Built | None = None


@contextlib.contextmanager
def only_one(folder: Path, wait_seconds: float = 0.0, run: str = "") -> Iterator[None]:
    """Hold the right to change a knowledge base; it is free again soon after the process was killed.

    Args:
        folder: of the knowledge base.
        wait_seconds: how long to wait for another process; 0 does not wait.
        run: that this process belongs to, for the messages of others.

    Raises:
        KnowledgeBaseError: another process holds it still.
        StorageError: the folder may not be written.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(claimed(folder, run, wait_seconds))
        try:
            stack.enter_context(locked(folder / _LOCK, wait_seconds))  # exact, where the volume has locks
        except StorageError as error:
            if isinstance(error.__cause__, BlockingIOError):
                raise KnowledgeBaseError(f"{folder}: another process is ingesting into it; wait for it") from error
            if getattr(error.__cause__, "errno", None) not in _NO_LOCKS:
                raise
        yield


def ingest(wanted: Wanted) -> Ingestion:
    """Serve what is wanted: the version that holds it already, repaired where it is damaged, or a new one.

    A version is written in a folder of its own, its manifest last; until served.json is replaced, the one before is
    served. What Milvus holds is asked, not remembered, so that a killed ingestion can be resumed wherever it was. A
    damaged version is served on while it is repaired: each of its files is replaced at once by a whole one.

    Raises:
        KnowledgeBaseError: Milvus or the encoder fail, or what was written cannot be found again.
        StorageError: the disk is full or may not be written.
    """
    folder = wanted.folder
    served = read_served(folder)
    known = [path for path, manifest in whole_versions(folder).items() if wanted.is_in(path, manifest)]
    if known:
        done = _mended(wanted, min(known, key=lambda path: path.name != served))
    else:
        _check_passages(wanted.passages)
        done = _write(wanted, _begun(wanted))
    if done.manifest.version != served:
        serve(folder, done.manifest.version)
    _remove_abandoned(folder, wanted.token)
    _mend_others(wanted, done.manifest)
    return done


def remove_version(folder: Path, token: str = "") -> None:
    """Remove a version for good: first its collection, where that is on a server, then its folder.

    Raises:
        KnowledgeBaseError: the server cannot be reached, or the collection was made by another knowledge base, of which
            this one is a copy; the folder then still stands.
    """
    if collection := ledger.collection_of(folder):
        ledger.drop(folder.parent, collection, token)
    _remove_folder(folder)


def _remove_folder(folder: Path) -> None:
    remove_folder(folder)
    shutil.rmtree(folder.parent / LEASES / folder.name, ignore_errors=True)


def _mended(wanted: Wanted, folder: Path) -> Ingestion:
    """A version that is whole, once what is damaged of it is written again; it stays in its place for its readers."""
    manifest = _manifest(folder)
    rows_intact = rows_are_intact(folder, manifest, wanted.token)
    if files_are_intact(folder, manifest):
        if rows_intact:
            return Ingestion(manifest)
    elif rows_intact:
        embedded, checksums = _write_files(wanted, manifest, open_feature_store(folder, wanted.token))
        if {**checksums, PASSAGES: ""} == {**manifest.checksums, PASSAGES: ""}:  # the vectors that Milvus holds
            manifest = replace(manifest, checksums=checksums)
            write_manifest(manifest, folder / MANIFEST)
            return Ingestion(manifest, embedded=embedded)
    check_no_other_owner(folder / EMBEDDED_DATABASE)
    write_manifest(manifest, folder / REPAIRING)
    return _write(wanted, manifest)


def _mend_others(wanted: Wanted, done: Manifest) -> None:
    """Repair versions of the same passages and encoder that were made with other choices: pointers may name them."""
    of_it = (done.content_hash, done.encoder_fingerprint)
    for folder, manifest in whole_versions(wanted.folder).items():
        if manifest.version != done.version and (manifest.content_hash, manifest.encoder_fingerprint) == of_it:
            try:
                _mended(wanted.as_in(folder, manifest), folder)
            except RagtuneError as error:
                logger.warning("%s: may be damaged, and was not repaired: %s", folder, error)


def _begun(wanted: Wanted) -> Manifest:
    """A version to write: one that was begun before or is to be repaired, or a new one."""
    folders = version_folders(wanted.folder)
    for folder in folders:
        for name in UNFINISHED:
            with contextlib.suppress(KnowledgeBaseError):  # begun by an earlier ragtune, and now abandoned
                manifest = read_manifest(folder / name)
                if manifest and wanted.is_in(folder, manifest) and ledger.is_own(folder):
                    return manifest
    manifest = wanted.manifest(f"kb_v{max((version_number(path.name) for path in folders), default=0) + 1}")
    write_manifest(manifest, wanted.folder / manifest.version / BUILDING)
    return manifest


def _write(wanted: Wanted, begun: Manifest) -> Ingestion:
    folder, passages = wanted.folder / begun.version, wanted.passages
    index = first_index(wanted.index, len(passages), begun.dimension)
    write_feature_repo(folder, wanted.name, wanted.uri, index, wanted.ending)
    ledger.enter(wanted.folder, folder)
    store = open_feature_store(folder, wanted.token)
    online = batched_store(store)
    view = passages_view(begun.version, begun.dimension, begun.metric)
    try:
        _connect(folder, store, online, view)  # before minutes of embedding
        embedded, checksums = _write_files(wanted, begun, store)
        cache = wanted.cache(begun)
        rows = Rows(store, view, folder, passages, cache, read_mean(folder), begun.created, wanted.chunk_rows)
        written = rows.write_missing()
        built = rows.index(read_vectors(folder, len(passages), begun.dimension))
        manifest = replace(
            begun,
            created=now(),
            built_index=str(built.index),
            index_recall=round(built.found.recall, 4),
            checksums=checksums,
        )
        write_manifest(manifest, folder / MANIFEST)
        for name in UNFINISHED:
            (folder / name).unlink(missing_ok=True)
    finally:
        online.disconnect()
    return Ingestion(manifest, written, embedded, built)


def _write_files(wanted: Wanted, begun: Manifest, store: FeatureStore) -> tuple[int, dict[str, str]]:
    """Write those of a version's files that are not intact; how many texts were embedded, and the files' checksums."""
    folder, passages, cache = wanted.folder / begun.version, wanted.passages, wanted.cache(begun)
    if wanted.encoder.precision != begun.precision and len(cache.missing(passages.content_hashes)):
        raise KnowledgeBaseError(
            f"{cache.folder}: lacks vectors of {folder}, and the encoder computes in {wanted.encoder.precision} here; "
            f"ingest those passages where it computes in {begun.precision}"
        )
    intact = set(begun.checksums) - set(damaged_files(folder, begun.checksums))
    if PASSAGES not in intact:
        passages.save(folder / PASSAGES)
    embedded = embed_missing(passages, wanted.encoder, cache, folder / PASSAGES)
    earlier = [version / OFFLINE_SOURCE for version in version_folders(wanted.folder)]
    write_offline_source(folder / OFFLINE_SOURCE, passages, cache, begun.created, earlier)
    if VECTORS not in intact or (MEAN in begun.checksums and MEAN not in intact):
        mean = write_vectors(folder, cache.vectors(passages.content_hashes))
        # FLAT may have followed a graph.
        if index_of(store).kind != "FLAT" or (folder / MEAN).exists() or MEAN in begun.checksums:
            write_mean(folder, mean)
    return embedded, checksums_of(folder, (PASSAGES, VECTORS, MEAN))


def _connect(folder: Path, store: FeatureStore, online: BatchedMilvusOnlineStore, view: FeatureView) -> None:
    """Connect; an embedded database that is broken is removed, as all that it held can be written again."""
    try:
        online.connect(store.config)
        online.count(store.config, view)
    except (UnavailableError, TakenError):  # which says nothing of what it holds
        raise
    except KnowledgeBaseError:
        database = folder / EMBEDDED_DATABASE
        if milvus_uri_of(folder) or is_open_elsewhere(database) or not database.exists():
            raise
        logger.warning("%s: cannot be read, and is written again", database)
        online.disconnect()
        shutil.rmtree(database)
        online.connect(store.config)


def _check_passages(passages: Passages) -> None:
    if not len(passages):
        raise KnowledgeBaseError(f"{passages.place}: no passages; did split_passages drop every row of the corpus?")
    if passages.duplicate_ids:
        raise KnowledgeBaseError(
            f"{passages.place}: {passages.duplicate_ids:,} ids occur more than once; let split_passages write it again"
        )
    row, length = passages.longest_text
    if length > _LONGEST_TEXT_BYTES:
        raise KnowledgeBaseError(
            f'{passages.place}: passage "{passages[row].id[:80]}" holds a text of {length:,} bytes, and Milvus takes '
            f"{_LONGEST_TEXT_BYTES:,} at most; cut the corpus with split_passages"
        )


def _remove_abandoned(folder: Path, token: str) -> None:
    """Remove what interrupted ingestions of something else have begun; versions that were whole once stay."""
    for path in version_folders(folder):
        if (path / MANIFEST).exists():
            (path / BUILDING).unlink(missing_ok=True)  # killed between the manifest and this
        elif (path / BUILDING).exists() or not any(path.glob("[!.]*")):
            try:
                remove_version(path, token)
            except KnowledgeBaseError as error:  # such as a server that is gone: no reason not to serve another one
                logger.warning("%s; `ragtune gc` tries again", error)
                _remove_folder(path)  # the ledger remembers the collection


def _manifest(folder: Path) -> Manifest:
    manifest = read_manifest(folder / MANIFEST)
    assert manifest is not None
    return manifest
