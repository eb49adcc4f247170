"""What a knowledge base says of itself: manifest.json, and pointers to it from elsewhere."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ragtune.errors import KnowledgeBaseError
from ragtune.files import atomic_file

MANIFEST = "manifest.json"
EMBEDDED_DATABASE = "milvus.db"  # beside it, where Milvus is not a server
POINTER = "knowledge_base.json"
METRIC = "IP"  # inner product: of index, query and p(z|x) alike


@dataclass(frozen=True)
class Manifest:
    """One version of a knowledge base.

    Attributes:
        version: `kb_v1`, `kb_v2`, …; also the name of its Feast feature view.
        name: of the knowledge base; also the name of its Feast project.
        encoder: where the passage encoder was loaded from.
        encoder_fingerprint: of the passage encoder's weights, tokenizer and pooling.
        dimension: d, of a stored vector.
        metric: "IP", inner product.
        index: "HNSW" or "FLAT".
        rows: number of passages.
        content_hash: of the passages, as `Passages.content_hash` has it.
        passages: their file, relative to the knowledge base's folder.
        created: when this state was finished (or, where it is not whole, begun), ISO 8601, UTC.
        whole: False while rows of this version are being written or deleted.
    """

    version: str
    name: str
    encoder: str
    encoder_fingerprint: str
    dimension: int
    metric: str
    index: str
    rows: int
    content_hash: str
    passages: str
    created: str
    whole: bool


def read_manifest(path: Path) -> Manifest | None:
    """The manifest in a file, None where there is no such file.

    Raises:
        KnowledgeBaseError: it cannot be read as a manifest.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Manifest(**{field.name: values[field.name] for field in fields(Manifest)})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KnowledgeBaseError(
            f"{path}: is no manifest of a knowledge base ({error!r}); ingest the passages into another folder"
        ) from error


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write it whole or not at all: the rename is what switches from one version to the next."""
    with atomic_file(path) as stream:
        json.dump(asdict(manifest), stream, indent=2)


def write_pointer(folder: str | Path, knowledge_base_folder: str | Path) -> None:
    """Leave in `folder` a small file that says which knowledge base, and which state of it, is meant.

    Raises:
        KnowledgeBaseError: there is no whole knowledge base to point at.
    """
    manifest = _serving(Path(knowledge_base_folder))
    point_at(folder, knowledge_base_folder, manifest.version, manifest.content_hash)


def point_at(folder: str | Path, knowledge_base_folder: str | Path, version: str, content_hash: str) -> None:
    """As `write_pointer`, at a state that is known; `resolve` says if the knowledge base has moved on from it."""
    pointer = {"path": str(Path(knowledge_base_folder).absolute()), "version": version, "content_hash": content_hash}
    with atomic_file(Path(folder) / POINTER) as stream:
        json.dump(pointer, stream, indent=2)


def resolve(folder: str | Path) -> tuple[Path, Manifest]:
    """The folder of a knowledge base, or the one that a pointer in `folder` means, and its manifest.

    Raises:
        KnowledgeBaseError: there is none, it is not whole, or it has moved on since the pointer was written.
    """
    folder = Path(folder)
    pointer_path = folder / POINTER
    if not pointer_path.exists():
        return folder, _serving(folder)
    try:
        pointer = json.loads(pointer_path.read_text(encoding="utf-8"))
        target, expected = Path(pointer["path"]), (pointer["version"], pointer["content_hash"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KnowledgeBaseError(f"{pointer_path}: is no pointer to a knowledge base ({error!r})") from error
    manifest = _serving(target)
    if (manifest.version, manifest.content_hash) != expected:
        raise KnowledgeBaseError(
            f"{target}: has moved on to {manifest.version} with content {manifest.content_hash[:12]}, but "
            f"{pointer_path} means {expected[0]} with content {expected[1][:12]}; ingest those passages again, or run "
            "what wrote the pointer again"
        )
    return target, manifest


def _serving(folder: Path) -> Manifest:
    manifest = read_manifest(folder / MANIFEST)
    if manifest is None:
        raise KnowledgeBaseError(f"{folder}: no knowledge base there (no {MANIFEST}); run ingest_passages first")
    if not manifest.whole:
        raise KnowledgeBaseError(
            f"{folder}: {manifest.version} is being updated, or an update was interrupted; if none is under way, run "
            "ingest_passages again: it goes on from where it was"
        )
    return manifest
