"""Pointers to a version of a knowledge base, and the way from one, or from a folder, to that version."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ragtune.errors import KnowledgeBaseError
from ragtune.files import atomic_file
from ragtune.knowledge.damage import raise_if_unavailable
from ragtune.knowledge.leases import renew_opened, take
from ragtune.knowledge.manifest import (
    MANIFEST,
    SERVED,
    UNFINISHED,
    Manifest,
    is_version,
    read_manifest,
    read_served,
    whole_versions,
)

POINTER = "knowledge_base.json"


@dataclass(frozen=True)
class Pointer:
    """A version of a knowledge base, as others name it: artifacts of a run, and the lineage of a model.

    Attributes:
        path: of the knowledge base's folder.
        version: its name.
        content_hash: of its passages.
        encoder_fingerprint: of its passage encoder; "" where it is not known.
    """

    path: str
    version: str
    content_hash: str
    encoder_fingerprint: str = ""


def write_pointer(folder: str | Path, knowledge_base_folder: str | Path) -> None:
    """Leave in `folder` a small file that names a version: the one that a knowledge base serves now.

    Raises:
        KnowledgeBaseError: there is no knowledge base, or its version is not whole.
    """
    point_at(folder, pointer_to(*resolve(knowledge_base_folder)))


def pointer_to(folder: Path, manifest: Manifest) -> Pointer:
    """The pointer to a version, given its folder and manifest."""
    return Pointer(str(folder.absolute().parent), manifest.version, manifest.content_hash, manifest.encoder_fingerprint)


def point_at(folder: str | Path, pointer: Pointer) -> None:
    """As `write_pointer`, at a version that is known; the pointer's file holds a lease on it."""
    take(Path(pointer.path) / pointer.version, str((Path(folder) / POINTER).absolute()))
    with atomic_file(Path(folder) / POINTER) as stream:
        json.dump(asdict(pointer), stream, indent=2)


def read_pointer(path: Path) -> Pointer:
    """The pointer in a file.

    Raises:
        KnowledgeBaseError: it cannot be read as one.
    """
    try:
        return pointer_from(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise_if_unavailable(path, error)
        raise KnowledgeBaseError(f"{path}: is no pointer to a knowledge base ({error!r})") from error


def pointer_from(told: dict[str, Any]) -> Pointer:
    """A pointer from what a file or a model's lineage tells; KeyError where that is too little."""
    return Pointer(told["path"], told["version"], told["content_hash"], told.get("encoder_fingerprint", ""))


def as_text(folder: str | Path) -> str:
    """The pointer in a folder as one line of JSON: what KFP hands on as a parameter, and keys its cache by."""
    return json.dumps(asdict(read_pointer(Path(folder) / POINTER)), sort_keys=True)


def from_text(text: str) -> Pointer:
    """The reverse of `as_text`.

    Raises:
        KnowledgeBaseError: the text is no pointer.
    """
    try:
        return pointer_from(json.loads(text))
    except (ValueError, KeyError, TypeError) as error:
        raise KnowledgeBaseError(f"{text!r}: is no pointer to a knowledge base ({error!r})") from error


def leads_to(pointer: Pointer, version: Path) -> bool:
    """True where a pointer is meant for, or would open, a version, wherever its knowledge base is mounted here.

    Raises:
        KnowledgeBaseError: a manifest cannot be read.
    """
    root, told = version.parent, Path(pointer.path)
    if told.name != root.absolute().name and told.resolve() != root.resolve():
        return False
    return pointer.version == version.name or (_holds(version, pointer) and not _holds(root / pointer.version, pointer))


def _holds(version: Path, pointer: Pointer) -> bool:
    """True where a version, whole or not, is of a pointer's content and encoder."""
    manifests = [read_manifest(version / name) for name in (MANIFEST, *UNFINISHED)]
    return any(manifest and _is_of(manifest, pointer) for manifest in manifests)


def _is_of(manifest: Manifest, pointer: Pointer) -> bool:
    encoders = ("", manifest.encoder_fingerprint)
    return manifest.content_hash == pointer.content_hash and pointer.encoder_fingerprint in encoders


def resolve(place: str | Path | Pointer) -> tuple[Path, Manifest]:
    """The folder of one version, and its manifest.

    Args:
        place: a pointer, or a folder that holds one: the version that it names, whatever is served by now; a knowledge
            base's folder: the version that is served; or a version's own folder.

    Raises:
        KnowledgeBaseError: there is no such version, it is not whole, or it may not be read.
    """
    try:
        return _pointed_at(place) if isinstance(place, Pointer) else _found_in(Path(place))
    except PermissionError as error:
        raise KnowledgeBaseError(f"{error.filename}: may not be read; give this user the right to") from error


def _found_in(folder: Path) -> tuple[Path, Manifest]:
    if (folder / POINTER).exists():
        pointer = read_pointer(folder / POINTER)
        travels = (folder / pointer.version / MANIFEST).exists()  # an artifact with its own knowledge base, wherever
        return _pointed_at(replace(pointer, path=str(folder)) if travels else pointer)
    if version := read_served(folder):
        return folder / version, _whole(folder / version)
    if is_version(folder):
        return folder, _whole(folder)
    if (folder / MANIFEST).exists():
        raise KnowledgeBaseError(
            f"{folder}: was written by an earlier ragtune, whose versions shared one database; run ingest_passages "
            "again: it makes a version from the embeddings that are there"
        )
    raise KnowledgeBaseError(f"{folder}: no knowledge base there (no {SERVED}); run ingest_passages first")


def _pointed_at(pointer: Pointer) -> tuple[Path, Manifest]:
    root = Path(pointer.path)
    folder = root / pointer.version
    versions = whole_versions(root)
    # The version of that name, or one that was ingested again with the same passages and encoder.
    for path, manifest in sorted(versions.items(), key=lambda item: item[0] != folder):
        if _is_of(manifest, pointer):
            renew_opened(path)
            return path, manifest
    if any((folder / name).exists() for name in UNFINISHED):
        return folder, _whole(folder)  # says so
    there = f"there is {', '.join(path.name for path in versions)}" if versions else "there is none"
    encoder = f" and encoder {pointer.encoder_fingerprint[:12]}" if pointer.encoder_fingerprint else ""
    raise KnowledgeBaseError(
        f"{folder}: with content {pointer.content_hash[:12]}{encoder} is gone ({there}); ingest those passages again "
        f"with that encoder into {root}"
    )


def _whole(folder: Path) -> Manifest:
    if manifest := read_manifest(folder / MANIFEST):
        return manifest
    if any((folder / name).exists() for name in UNFINISHED):
        raise KnowledgeBaseError(
            f"{folder}: is being written, or that was interrupted; if no ingestion is under way, run ingest_passages "
            "again with the same passages: it resumes"
        )
    raise KnowledgeBaseError(f"{folder}: no version there (no {MANIFEST}); run ingest_passages again")
