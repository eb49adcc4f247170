"""A version's files and rows, checked: what an ingestion leaves alone, and what it repairs."""

from pathlib import Path

from ragtune.errors import KnowledgeBaseError, StorageError, UnavailableError
from ragtune.knowledge.damage import damaged_files
from ragtune.knowledge.feature_repo import (
    OFFLINE_SOURCE,
    batched_store,
    milvus_uri_of,
    open_feature_store,
    registered_view,
)
from ragtune.knowledge.manifest import EMBEDDED_DATABASE, PASSAGES, REPAIRING, Manifest
from ragtune.knowledge.milvus import is_open_elsewhere
from ragtune.knowledge.offline_source import count_rows, parts_are_whole
from ragtune.knowledge.passages import Passages
from ragtune.knowledge.vectors import read_mean, read_vectors


def files_are_intact(folder: Path, manifest: Manifest) -> bool:
    """False where a version lacks files, or they hold other bytes than were written; all of them are read.

    Raises:
        UnavailableError, StorageError: one cannot be read now.
    """
    try:
        rows = len(Passages.open(folder / PASSAGES)), count_rows(folder / OFFLINE_SOURCE)
        read_vectors(folder, manifest.rows, manifest.dimension)
        read_mean(folder)
    except UnavailableError:
        raise
    except (KnowledgeBaseError, StorageError):
        return False
    return (
        rows == (manifest.rows, manifest.rows)
        and not damaged_files(folder, manifest.checksums)
        and parts_are_whole(folder / OFFLINE_SOURCE)
    )


def rows_are_intact(folder: Path, manifest: Manifest, token: str) -> bool:
    """False where Milvus lacks rows of a version, Feast does not know it, or a repair of these was interrupted.

    Raises:
        UnavailableError: its Feast registry cannot be read now.
        KnowledgeBaseError: its Milvus server cannot be reached.
    """
    if (folder / REPAIRING).exists():
        return False
    try:
        store = open_feature_store(folder, token)
        view = registered_view(store, manifest.version)
    except UnavailableError:
        raise
    except KnowledgeBaseError:
        return False
    database = None if milvus_uri_of(folder) else folder / EMBEDDED_DATABASE
    if database and is_open_elsewhere(database):  # and was asked for its rows when it was opened
        return True
    if database and not database.is_dir():
        return False
    online = batched_store(store)
    try:
        return online.count(store.config, view) == manifest.rows
    except UnavailableError:
        raise
    except KnowledgeBaseError:
        if database:
            return False
        raise
    finally:
        online.disconnect()
