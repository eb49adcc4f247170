"""Bring what a knowledge base holds in line with a file of passages: in place, or as a new version beside the old."""

import contextlib
import fcntl
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from feast import FeatureStore, FeatureView

from ragtune.errors import KnowledgeBaseError
from ragtune.knowledge.embedding import EmbeddingCache, embed_missing
from ragtune.knowledge.feature_repo import (
    OFFLINE_SOURCE,
    batched_store,
    forget_view,
    open_feature_store,
    passages_view,
)
from ragtune.knowledge.manifest import EMBEDDED_DATABASE, MANIFEST, METRIC, Manifest, read_manifest, write_manifest
from ragtune.knowledge.online_store import BatchedMilvusOnlineStore
from ragtune.knowledge.passages import Passages
from ragtune.knowledge.retrieved import PassageEncoder
from ragtune.knowledge.rows import Rows, write_offline_source

_BUILDING = "building.json"  # the manifest of a version that is being built, in that version's folder
_LOCK = ".ingestion.lock"
_LOWEST_RECALL = 0.9
_LONGEST_TEXT_BYTES = 65_535  # Milvus' longest string


@dataclass(frozen=True)
class Ingestion:
    """What an ingestion did.

    Attributes:
        manifest: of what is served now.
        written: rows written to Milvus.
        deleted: rows deleted from it.
        embedded: texts that the encoder was asked for.
    """

    manifest: Manifest
    written: int = 0
    deleted: int = 0
    embedded: int = 0


def plan(folder: Path, name: str, index: str, passages: Passages, encoder: PassageEncoder) -> Manifest:
    """What is to be made of the passages: the version that is served, if this encoder made it, else a new one.

    A version that an interrupted run had begun with this encoder is gone on with.
    """
    fingerprint, dimension = encoder.fingerprint, encoder.dimension
    serving = read_manifest(folder / MANIFEST)
    begun = [manifest for path in folder.glob(f"*/{_BUILDING}") if (manifest := read_manifest(path))]
    for known in filter(None, [serving, *begun]):
        if (known.encoder_fingerprint, known.dimension) == (fingerprint, dimension):
            version = known.version
            break
    else:
        version = f"kb_v{_highest(folder) + 1}"
    return Manifest(
        version=version,
        name=name,
        encoder=encoder.name,
        encoder_fingerprint=fingerprint,
        dimension=dimension,
        metric=METRIC,
        index=index,
        rows=len(passages),
        content_hash=passages.content_hash,
        passages=f"{version}/passages-{passages.content_hash[:12]}.arrow",
        created=_now(),
        whole=False,
    )


def is_served(folder: Path, wanted: Manifest, uri: str, token: str) -> Manifest | None:
    """The manifest of what is served, if that is what is wanted; None if there is something to do."""
    serving = read_manifest(folder / MANIFEST)
    if serving is None or not serving.whole:
        return None
    if replace(serving, created=wanted.created, encoder=wanted.encoder, whole=False) != wanted:
        return None
    if not uri:  # lives and dies with the manifest beside it, and may be open elsewhere
        return serving if (folder / EMBEDDED_DATABASE).is_dir() else None
    store = open_feature_store(folder, token)
    online = batched_store(store)
    try:
        rows = online.count(store.config, passages_view(serving.version, serving.dimension, serving.metric))
    finally:
        online.disconnect()
    return serving if rows == serving.rows else None


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the right to change a knowledge base; the system gives it back if the process is killed.

    Raises:
        KnowledgeBaseError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / _LOCK, "w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise KnowledgeBaseError(f"{folder}: another process is ingesting into it; wait for it") from error
        yield


def bring_in_line(
    folder: Path,
    wanted: Manifest,
    passages: Passages,
    encoder: PassageEncoder,
    cache: EmbeddingCache,
    token: str,
    chunk_rows: int,
) -> Ingestion:
    """Embed, write, delete, index, verify, and switch to `wanted`.

    Until the switch, manifest.json either is the old version's, which is whole and served, or says that this version is
    not whole. What Milvus holds is asked, not remembered, so that a killed run can be gone on with wherever it was.

    Args:
        folder: of the knowledge base, with its feature repo.
        wanted: from `plan`.
        passages: what shall be served.
        encoder: for those whose vectors the cache lacks.
        cache: of vectors.
        token: for a Milvus server.
        chunk_rows: rows a call of Feast's `write_to_online_store`.

    Raises:
        KnowledgeBaseError: Milvus or the encoder fail, or what was written cannot be found again.
        StorageError: the disk is full or may not be written.
    """
    _check_passages(passages)
    store = open_feature_store(folder, token)
    online = batched_store(store)
    view = passages_view(wanted.version, wanted.dimension, wanted.metric)
    try:
        online.connect(store.config)  # before minutes of embedding
        wanted = _free_version(folder, wanted, store, online)
        view = passages_view(wanted.version, wanted.dimension, wanted.metric)
        embedded = embed_missing(passages, encoder, cache)
        passages.save(folder / wanted.passages)
        serving = read_manifest(folder / MANIFEST)
        if serving and serving.version == wanted.version:
            write_manifest(replace(serving, whole=False), folder / MANIFEST)
        write_offline_source(folder / wanted.version / OFFLINE_SOURCE, passages, cache, wanted.created, chunk_rows)
        rows = Rows(store, view, folder, passages, cache, wanted.created, chunk_rows)
        written, deleted = rows.bring_in_line()
        recall = rows.index_and_probe()
        if recall < _LOWEST_RECALL and written < len(passages):
            # Deleted rows stay in the index's way until Milvus compacts them away.
            written, deleted = rows.write_afresh(), 0
            recall = rows.index_and_probe()
        _check_recall(recall, view)
        finished = replace(wanted, created=_now(), whole=True)
        write_manifest(finished, folder / MANIFEST)
        _clean_up(folder, finished, store)
    finally:
        online.disconnect()
    return Ingestion(finished, written, deleted, embedded)


def _check_passages(passages: Passages) -> None:
    if not len(passages):
        raise KnowledgeBaseError(f"{passages.place}: no passages; did split_passages drop every row of the corpus?")
    if len(set(passages.ids)) < len(passages):
        raise KnowledgeBaseError(
            f"{passages.place}: {len(passages) - len(set(passages.ids)):,} ids stand more than once; let "
            "split_passages write it again"
        )
    for passage in passages:
        longest = max(passage.id, passage.title, passage.text, key=lambda part: len(part.encode()))
        if len(longest.encode()) > _LONGEST_TEXT_BYTES:
            raise KnowledgeBaseError(
                f'{passages.place}: passage "{passage.id[:80]}" holds a text of {len(longest.encode()):,} bytes, and '
                f"Milvus takes {_LONGEST_TEXT_BYTES:,} at most; cut the corpus with split_passages"
            )


def _free_version(folder: Path, wanted: Manifest, store: FeatureStore, online: BatchedMilvusOnlineStore) -> Manifest:
    """Say on disk that a new version is being built, under a number that nobody has in this Milvus."""
    serving = read_manifest(folder / MANIFEST)
    building = folder / wanted.version / _BUILDING
    if (serving and serving.version == wanted.version) or building.exists():
        return wanted
    for number in count(int(wanted.version.removeprefix("kb_v"))):
        version = f"kb_v{number}"
        # Two folders may share a server; each collection belongs to the one that made it.
        if online.count(store.config, passages_view(version, wanted.dimension)) < 0:
            break
    wanted = replace(wanted, version=version, passages=f"{version}/{Path(wanted.passages).name}")
    write_manifest(wanted, folder / wanted.version / _BUILDING)
    return wanted


def _check_recall(recall: float, view: FeatureView) -> None:
    if recall < _LOWEST_RECALL:
        raise KnowledgeBaseError(
            f'the index of {view.name} finds only {recall:.0%} of what is nearest; nothing was switched. Raise "ef" '
            'under search_params in feature_store.yaml, or choose index="FLAT" in a new folder'
        )


def _clean_up(folder: Path, serving: Manifest, store: FeatureStore) -> None:
    """Remove what nobody can ask for any more: versions older than the last, abandoned ones, old passages."""
    (folder / serving.version / _BUILDING).unlink(missing_ok=True)
    for path in (folder / serving.version).glob("passages-*.arrow"):
        if path != folder / serving.passages:
            path.unlink()
    whole = sorted(
        (path for path in folder.glob("kb_v*") if not (path / _BUILDING).exists()),
        key=lambda path: int(path.name.removeprefix("kb_v")),
    )
    kept = {path.name for path in whole[-2:]} | {serving.version}
    for path in folder.glob("kb_v*"):
        if path.name not in kept:
            view = passages_view(path.name, serving.dimension, serving.metric)
            batched_store(store).drop(store.config, view)
            forget_view(store, view)
            shutil.rmtree(path)


def _highest(folder: Path) -> int:
    return max((int(path.name.removeprefix("kb_v")) for path in folder.glob("kb_v*")), default=0)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
