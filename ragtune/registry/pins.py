"""The version of the knowledge base that a registered model answers from: a lease on it, or a copy of its files."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ragtune.errors import KnowledgeBaseError
from ragtune.knowledge.leases import take
from ragtune.knowledge.pointers import Pointer, pointer_from, resolve

if TYPE_CHECKING:
    from mlflow import MlflowClient

_ARTIFACTS = "knowledge_base"
logger = logging.getLogger(__name__)


def pin_knowledge_base(model_folder: str | Path, workspace: str | Path, holder: str) -> Path | None:
    """Take a lease without an end on the version that a model's lineage names, so that `ragtune gc` keeps it.

    It is not registered models' files that keep a version: in a server's artifacts nobody who tidies up sees them.

    Args:
        model_folder: what `save_model` wrote.
        workspace: where the knowledge base is looked for, too, which may be mounted elsewhere than it was; "" nowhere.
        holder: the model and version in words, for who lists leases.

    Returns:
        The lease's file; None, and a warning, where the version is not to be found or may not be written beside.
    """
    lineage = json.loads((Path(model_folder) / "ragtune.json").read_text(encoding="utf-8")).get("lineage", {})
    try:
        pointer = pointer_from(lineage["knowledge_base"])
    except (KeyError, TypeError):
        return None  # a model without one
    try:
        return take(find_knowledge_base(pointer, workspace), holder, lasting=True)
    except KnowledgeBaseError as error:
        logger.warning("%s: its knowledge base cannot be kept from `ragtune gc`: %s", model_folder, error)
        return None


def find_knowledge_base(pointer: Pointer, workspace: str | Path) -> Path:
    """The folder of the version that a pointer names, where it was or in a workspace that is mounted elsewhere by now.

    Raises:
        KnowledgeBaseError: it is at neither place.
    """
    try:
        return resolve(pointer)[0]
    except KnowledgeBaseError:
        mounted = Path(workspace) / "knowledge_bases" / Path(pointer.path).name
        if not workspace or not mounted.is_dir():
            raise
        return resolve(replace(pointer, path=str(mounted)))[0]


def log_knowledge_base(client: "MlflowClient", run_id: str, place: str | Path) -> None:
    """Keep a version's files as artifacts of a registration's run; the rows stay on the Milvus server.

    Raises:
        KnowledgeBaseError: there is none at `place`, as `resolve` has it.
    """
    version, _ = resolve(place)
    client.log_artifacts(run_id, str(version), f"{_ARTIFACTS}/{version.name}")


def logged_knowledge_base(client: "MlflowClient", run_id: str, folder: str | Path) -> Path | None:
    """Download what `log_knowledge_base` kept into a folder; the version's folder, None where nothing was kept."""
    for logged in client.list_artifacts(run_id, _ARTIFACTS):
        return Path(client.download_artifacts(run_id, logged.path, str(folder)))
    return None
