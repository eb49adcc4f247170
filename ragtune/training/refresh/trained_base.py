"""The knowledge base that a run leaves for the trained passage encoder."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ragtune.knowledge.manifest import Manifest
from ragtune.knowledge.pointers import pointer_to
from ragtune.training.arguments import RunFiles


def described(folder: Path, manifest: Manifest) -> dict[str, Any]:
    """A knowledge base as a model's lineage names it: path, version, content_hash, encoder_fingerprint, rows."""
    return asdict(pointer_to(folder, manifest)) | {"rows": manifest.rows}


def trained_folder(files: RunFiles, start_folder: Path, run: str) -> Path:
    """Folder of the knowledge base for the trained passage encoder: as asked for, else beside the start's.

    Args:
        files: of the run.
        start_folder: of the version that the run starts from.
        run: its name.
    """
    return Path(files.trained_knowledge_base_folder or f"{start_folder.absolute().parent}-{run}")
