"""The versions of a knowledge base on disk: a folder and a manifest each, and the note of which one is served."""

import json
import re
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path

from ragtune.errors import KnowledgeBaseError
from ragtune.files import atomic_file
from ragtune.knowledge.damage import raise_if_unavailable

MANIFEST = "manifest.json"  # in a version's folder, written last: where it is, the version is whole
UNFINISHED = ("building.json", "repairing.json")  # while it is written, or its rows in Milvus are again
BUILDING, REPAIRING = UNFINISHED
SERVED = "served.json"  # in the knowledge base's folder: which version is served
PASSAGES = "passages.arrow"  # in a version's folder
EMBEDDED_DATABASE = "milvus.db"  # beside it, where Milvus is not a server
REPAIR = "run ingest_passages again with the same passages: it repairs the version"
METRIC = "IP"  # inner product: of index, query and p(z|x) alike
_VERSION = re.compile(r"kb_v[1-9][0-9]*")


@dataclass(frozen=True)
class Manifest:
    """One version of a knowledge base.

    Attributes:
        version: `kb_v1`, `kb_v2`, …; also the name of its folder and of its Feast feature view.
        name: of the knowledge base.
        encoder: where the passage encoder was loaded from.
        encoder_fingerprint: of the passage encoder's weights, tokenizer and pooling.
        dimension: d, of a stored vector.
        precision: that the vectors were computed in, "float32" or "bfloat16"; another one makes another version.
        metric: "IP", inner product.
        index: as it was asked for: "auto", "HNSW" or "FLAT".
        rows: number of passages.
        content_hash: of the passages, as `Passages.content_hash` has it.
        created: when it was finished (or, where it is not, begun), ISO 8601, UTC.
        built_index: which index serves it; "" before one is built.
        index_recall: of the passages that made-up questions ask for and exact search finds, the share that it finds.
        checksums: of files in its folder, by name; empty where an earlier ragtune wrote it.
    """

    version: str
    name: str
    encoder: str
    encoder_fingerprint: str
    dimension: int
    precision: str
    metric: str
    index: str
    rows: int
    content_hash: str
    created: str
    built_index: str = ""
    index_recall: float = 0.0
    checksums: dict[str, str] = field(default_factory=dict, hash=False)


def read_manifest(path: Path) -> Manifest | None:
    """The manifest in a file, None where there is no such file.

    Raises:
        KnowledgeBaseError: it cannot be read as a manifest.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Manifest(**{known.name: values[known.name] for known in fields(Manifest) if known.name in values})
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise_if_unavailable(path, error)
        raise KnowledgeBaseError(
            f"{path}: is no manifest of a knowledge base ({error!r}); ingest the passages into another folder"
        ) from error


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write it whole or not at all."""
    with atomic_file(path) as stream:
        json.dump(asdict(manifest), stream, indent=2)


def check_encoder(folder: Path, manifest: Manifest, fingerprint: str) -> None:
    """Refuse to search a version with the vectors of another encoder; "" asks nothing.

    Raises:
        KnowledgeBaseError: it was made with another one.
    """
    if fingerprint and fingerprint != manifest.encoder_fingerprint:
        raise KnowledgeBaseError(
            f"{folder}: was made with the encoder {manifest.encoder} "
            f"({manifest.encoder_fingerprint[:12]}, {manifest.dimension} dimensions), not with the one that asks "
            f"({fingerprint[:12]}); ingest the passages with that one"
        )


def read_served(folder: Path) -> str:
    """The name of the version that a knowledge base serves; "" where it serves none yet.

    Raises:
        KnowledgeBaseError: the note cannot be read.
    """
    path = folder / SERVED
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["version"])
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise_if_unavailable(path, error)
        raise KnowledgeBaseError(
            f"{path}: does not say which version is served ({error!r}); delete it and run ingest_passages again"
        ) from error


def serve(folder: Path, version: str) -> None:
    """Serve a version from now on: the rename switches. Readers of another one keep theirs."""
    with atomic_file(folder / SERVED) as stream:
        json.dump({"version": version}, stream)


def whole_versions(folder: Path) -> dict[Path, Manifest]:
    """The folders of a knowledge base's whole versions with their manifests, newest first."""
    found = {path: read_manifest(path / MANIFEST) for path in version_folders(folder)}
    return {path: manifest for path, manifest in found.items() if manifest}


def version_folders(folder: Path) -> list[Path]:
    """The folders of all versions of a knowledge base, whole or not, newest first."""
    return sorted(filter(is_version, folder.glob("kb_v*")), key=lambda path: version_number(path.name), reverse=True)


def now() -> str:
    """The time, as a manifest has it."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def is_version(folder: Path) -> bool:
    """True for …/kb_v3."""
    return bool(_VERSION.fullmatch(folder.name))


def version_number(version: str) -> int:
    """The 3 of kb_v3."""
    return int(version.removeprefix("kb_v"))
