"""The collections that a knowledge base has made on Milvus servers, and the proof that they are its own to drop.

A copied workspace names the same collections as the one that it was copied from, which may serve them. So each line
says which folder made the collection: by a random id, which a copy of the folder loses, as the file that holds it has
another inode there, and by its path, for volumes that are cloned with their inodes.
"""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pymilvus import MilvusClient

from ragtune.errors import KnowledgeBaseError
from ragtune.files import atomic_file
from ragtune.knowledge.feature_repo import FEATURE_STORE, TOKEN_VARIABLE, open_feature_store
from ragtune.knowledge.manifest import version_folders
from ragtune.knowledge.milvus import CALL_SECONDS, connect_server, translated_errors

_LEDGER = "collections.jsonl"
_IDENTITY = "identity.json"


@dataclass(frozen=True)
class Collection:
    """A collection on a Milvus server."""

    uri: str
    name: str


@dataclass(frozen=True)
class _Maker:
    """The knowledge base's folder that made a collection."""

    id: str
    path: str


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
        maker = _Maker(_identity(folder) or _new_identity(folder), str(folder.resolve()))
        with open(folder / _LEDGER, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(asdict(collection) | {"made_by": asdict(maker)}) + "\n")


def orphans(folder: Path, token: str) -> tuple[list[Collection], list[str]]:
    """The collections on servers whose version's folder is gone, and what is in the way of others."""
    owned = [collection_of(version) for version in version_folders(folder)]
    found, problems = [], []
    for known in _entered(folder):
        if known not in owned:
            try:
                check_own(folder, known)
                found += [known] if _is_there(known, token) else []
            except KnowledgeBaseError as error:
                problems.append(str(error))
    return found, problems


def check_own(folder: Path, collection: Collection) -> None:
    """Refuse to drop what another knowledge base may serve.

    Args:
        folder: of the knowledge base that wants to drop it.
        collection: to drop.

    Raises:
        KnowledgeBaseError: that folder has not made it: it is a copy, or mounted elsewhere than it was.
    """
    maker = _entered(folder).get(collection)
    if maker and maker == _Maker(_identity(folder), str(folder.resolve())):
        return
    made = f"was made by {maker.path}" if maker else f"is not in {_LEDGER}"
    raise KnowledgeBaseError(
        f"{folder}: {collection.name} on {collection.uri} {made}, and this folder may be a copy; the collection stays. "
        "Tidy up where it was made; or, if nobody needs it, drop it from Milvus by hand and delete its version's folder"
    )


def is_own(version: Path) -> bool:
    """False for a version whose collection was made by another knowledge base, as `check_own` has it."""
    collection = collection_of(version)
    try:
        if collection:
            check_own(version.parent, collection)
    except KnowledgeBaseError:
        return False
    return True


def drop(folder: Path, collection: Collection, token: str) -> None:
    """Remove a collection from its server, if it is there.

    Raises:
        KnowledgeBaseError: as `check_own`; or the server cannot be reached, or refuses the token.
    """
    check_own(folder, collection)
    if _is_there(collection, token):
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


def _identity(folder: Path) -> str:
    """The random id of a knowledge base's folder; "" where it has none of its own, such as in a copy."""
    path = folder / _IDENTITY
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return str(told["id"]) if told["inode"] == path.stat().st_ino else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _new_identity(folder: Path) -> str:
    identity = secrets.token_hex(16)
    with atomic_file(folder / _IDENTITY) as stream:
        json.dump({"id": identity, "inode": os.fstat(stream.fileno()).st_ino}, stream)
    return identity


def _entered(folder: Path) -> dict[Collection, _Maker | None]:
    try:
        lines = (folder / _LEDGER).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    entered: dict[Collection, _Maker | None] = {}
    for line in lines:
        with suppress(ValueError, TypeError, KeyError):  # a line that a kill has cut off
            told = json.loads(line)
            maker = _Maker(**told["made_by"]) if "made_by" in told else None
            entered.setdefault(Collection(told["uri"], told["name"]), maker)
    return entered
