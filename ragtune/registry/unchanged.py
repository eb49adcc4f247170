"""A run that would only do again what a registered version came from, told before anything is computed."""

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ragtune import __version__
from ragtune.errors import KnowledgeBaseError
from ragtune.knowledge.pointers import pointer_from
from ragtune.registry.champion import find_champion
from ragtune.registry.connection import connected, is_unused, local_folder, registry_uri
from ragtune.registry.evaluated import hash_of
from ragtune.registry.mlflow import COMPARED_TAG, EVIDENCE_TAG, NO_CHAMPION, REASON_TAG, RUN_TAG
from ragtune.registry.pins import find_knowledge_base
from ragtune.registry.start import Start
from ragtune.settings.pipeline import SKIP, TRAIN

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

UNCHANGED = "unchanged: "  # what a run says that has nothing to train begins with this
# Parameters that no outcome depends on; of sources and models it is the content that counts, not the name.
_NAMES = {"questions", "validation_questions", "test_questions", "corpus"}
_NAMES |= {"question_encoder", "passage_encoder", "generator"}
_PLACE = {
    "data_cpus",
    "data_memory",
    "embed_cpus",
    "embed_memory",
    "gpu_resource",
    "keep_trainjob",
    "node_selector",
    "tolerations",
    "train_cpus",
    "train_memory",
    "training_runtime",
    "when_busy",
    "when_unchanged",
    "workspace_volume",
}


def run_key(values: Mapping[str, Any], fingerprints: Iterable[str]) -> str:
    """The SHA-256 of all that a run's outcome depends on: sources, base model, parameters, and ragtune's version.

    Args:
        values: of all parameters of the pipeline.
        fingerprints: of its sources and of the base model's parts, in an order that is always the same.
    """
    parameters = {name: value for name, value in values.items() if name not in _NAMES | _PLACE}
    return hash_of(__version__, json.dumps(parameters, sort_keys=True), *fingerprints)


def what_to_do(values: Mapping[str, Any], key: str, start: Start) -> tuple[str, str]:
    """Tell whether a run is to `train` or to `skip`, and why in one line.

    Args:
        values: of all parameters of the pipeline.
        key: the run's `run_key`.
        start: the model that it would start from.

    Raises:
        RegistryError: the registry cannot be reached.
    """
    if values["when_unchanged"] == SKIP:
        registry = registry_uri(values["tracking_uri"], values["workspace"])
        shared = values["workspace"] if values["workspace_volume"] else ""
        if same := version_of_run(values["model_name"], registry, key, shared):
            return SKIP, f"{UNCHANGED}these sources, models and parameters led to {same} (when_unchanged=skip)"
    return TRAIN, f"training starts from {start.told}"


def version_of_run(name: str, tracking_uri: str, key: str, workspace: str) -> str:
    """Find the registered version that the same run has led to, where another run would lead to nothing else.

    That is today's champion, or a version that was found no better than today's champion; and its model and knowledge
    base are still there.

    Args:
        name: of the registered model.
        tracking_uri: of the registry.
        key: the run's `run_key`.
        workspace: where the knowledge base is looked for, too; "" where its files are kept beside the model.

    Returns:
        The version in words; "" where there is none.

    Raises:
        RegistryError: the registry cannot be reached.
    """
    if is_unused(tracking_uri):
        return ""
    with connected(tracking_uri) as client:
        found = client.search_model_versions(f"name='{name}' and tags.`{RUN_TAG}` = '{key}'")
        champion = find_champion(client, name)
    today = str(champion.version) if champion else ""
    for version in sorted(found, key=lambda version: int(version.version), reverse=True):
        told = f"version {version.version} of {name}"
        if str(version.version) == today and _is_there(version, workspace):
            return f"{told}, the champion"
        decided_today = version.tags.get(EVIDENCE_TAG) and version.tags.get(COMPARED_TAG) == (today or NO_CHAMPION)
        if decided_today and _is_there(version, workspace):
            return f"{told}, which is not champion: {version.tags[REASON_TAG]}"
    return ""


def _is_there(version: "ModelVersion", workspace: str) -> bool:
    """True where a version's model and knowledge base can still be had, as far as can be seen from here."""
    folder = local_folder(str(version.source))
    if folder and not folder.is_dir():
        return False
    if not workspace:
        return True
    names = ("path", "version", "content_hash", "encoder_fingerprint")
    try:
        find_knowledge_base(pointer_from({name: version.tags[f"knowledge_base.{name}"] for name in names}), workspace)
    except (KeyError, KnowledgeBaseError):
        return False
    return True
