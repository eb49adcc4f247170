"""The collections that a knowledge base has made on Milvus servers, to find those whose version was deleted by hand."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pymilvus import MilvusClient

from ragtune.knowledge.feature_repo import FEATURE_STORE, TOKEN_VARIABLE, open_feature_store
from ragtune.knowledge.manifest import version_folders
from ragtune.knowledge.milvus import CALL_SECONDS, connect_server, translated_errors

_LEDGER = "collections.jsonl"


@dataclass(frozen=True)
class Collection:
    """A collection on a Milvus server."""

    uri: str
    name: str


def collection_of(version: Path) -> Collection | None:
    """The collection of a version; None of one that is embedded, or has no feature_store.yaml yet.

    Raises:
        KnowledgeBaseError: its feature_store.yaml is broken.
    """
    if not (version / FEATURE_STORE).exists():
        return None
    store = open_feature_store(version)
    uri = store.config.online_store.uri
    return Collection(uri, f"{store.project}_{version.name}") if uri else None


def enter(folder: Path, version: Path) -> None:
    """Note a version's collection in the knowledge base's folder, before it is made."""
    collection = collection_of(version)
    if collection and collection not in _entered(folder):
        with open(folder / _LEDGER, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(asdict(collection)) + "\n")


def orphans(folder: Path, token: str) -> list[Collection]:
    """The collections on servers whose version's folder is gone.

    Raises:
        KnowledgeBaseError: a server cannot be reached, or refuses the token.
    """
    owned = [collection_of(version) for version in version_folders(folder)]
    return [known for known in _entered(folder) if known not in owned and _is_there(known, token)]


def drop(collection: Collection, token: str) -> None:
    """Remove a collection from its server.

    Raises:
        KnowledgeBaseError: the server cannot be reached, or refuses the token.
    """
    with _connected(collection, token) as client:
        client.drop_collection(collection.name, timeout=CALL_SECONDS)


def _is_there(collection: Collection, token: str) -> bool:
    with _connected(collection, token) as client:
        return bool(client.has_collection(collection.name, timeout=CALL_SECONDS))


@contextmanager
def _connected(collection: Collection, token: str) -> Iterator[MilvusClient]:
    client = connect_server(collection.uri, token or os.environ.get(TOKEN_VARIABLE, ""))
    try:
        with translated_errors(collection.uri):
            yield client
    finally:
        client.close()


def _entered(folder: Path) -> list[Collection]:
    try:
        lines = (folder / _LEDGER).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    entered = []
    for line in lines:
        with suppress(ValueError, TypeError):  # a line that a kill has cut off
            entered.append(Collection(**json.loads(line)))
    return entered
