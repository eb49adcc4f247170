"""Today's champion: the version that the alias `champion` names, and its model folder."""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ragtune.errors import RegistryError, StorageError
from ragtune.evaluation.champion import Champion
from ragtune.files import content_hash, describe_write_error
from ragtune.registry.connection import connected, is_unused, local_folder
from ragtune.registry.downloads import download, downloading, temporary_folder
from ragtune.registry.kept_models import keep_model, kept_model
from ragtune.registry.pins import logged_knowledge_base

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
_DOWNLOAD = ".download."


def find_champion(client: "MlflowClient", name: str) -> "ModelVersion | None":
    """The version that is champion now; None where there is none, or no such model."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # no such model; no such alias
            return None
        raise


def move_champion(
    client: "MlflowClient", name: str, version: "ModelVersion", beaten: "ModelVersion | None", force: bool = False
) -> str:
    """Make a version champion in place of `beaten`; read the alias directly before and after.

    MLflow has no lock, and registrations with different workspaces on one server have none in common.

    Args:
        version: the new one.
        beaten: the champion that it was found better than; None if there was none.
        force: whatever the champion is by now.

    Returns:
        "", or who has moved the alias meanwhile, in words; it is then left as they set it.
    """
    now = find_champion(client, name)
    if force or _number(now) in (_number(beaten), str(version.version)):
        client.set_registered_model_alias(name, CHAMPION, version.version)
        now = find_champion(client, name)
        if _number(now) == str(version.version):
            return ""
    other = f"version {_number(now)}" if now else "none"
    return f"another registration, which did not wait for this one, made {other} champion meanwhile"


def _number(version: "ModelVersion | None") -> str:
    return str(version.version) if version else ""


def champion_model(name: str, tracking_uri: str) -> str:
    """The URI of the model folder of today's champion.

    Raises:
        RegistryError: there is no such model or no champion, or the registry cannot be reached.
    """
    with connected(tracking_uri) as client:
        champion = find_champion(client, name)
    if champion is None:
        raise RegistryError(f'{tracking_uri}: no version of "{name}" is {CHAMPION}; register a model first')
    return str(champion.source)


@contextlib.contextmanager
def todays_champion(name: str, tracking_uri: str) -> Iterator[Champion | None]:
    """Today's champion with its model folder, which is downloaded for the block where it is elsewhere, and so is its
    knowledge base where no workspace keeps that.

    None where there is no champion. Where its model cannot be had, `Champion.problem` says why.

    Raises:
        RegistryError: the registry cannot be reached.
        StorageError: no temporary folder can be made.
    """
    version = _version(name, tracking_uri)
    champion = _here(version) if version else None
    if version is None or champion:
        yield champion
        return
    with temporary_folder() as downloads:
        yield _downloaded(version, tracking_uri, downloads, with_knowledge_base=True)


def keep_champion(name: str, tracking_uri: str, models: Path) -> Champion | None:
    """As `todays_champion`, with a model folder that stays: where the model is elsewhere, a copy in `models`.

    Args:
        name: of the registered model.
        tracking_uri: of the registry.
        models: where `keep_model` keeps its versions; one that is there is not downloaded again.

    Raises:
        RegistryError: the registry cannot be reached.
        StorageError: `models` may not be written.
    """
    version = _version(name, tracking_uri)
    if version is None:
        return None
    if champion := _here(version):
        return champion
    if kept := kept_model(models, version.tags.get("model_hash", "")):
        return Champion(str(version.version), kept, source=str(version.source))
    try:
        models.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=_DOWNLOAD, dir=models) as downloads:  # links are made within one volume
            champion = _downloaded(version, tracking_uri, downloads)
            if champion.folder is None:
                return champion
            model_hash = version.tags.get("model_hash") or content_hash(champion.folder)
            return replace(champion, folder=keep_model(champion.folder, models, model_hash))
    except OSError as error:
        told = describe_write_error(error, models)
        if told is error:
            told = StorageError(f"{models}: cannot keep the champion ({error.strerror}); choose another workspace")
        raise told from error


def _version(name: str, tracking_uri: str) -> "ModelVersion | None":
    if is_unused(tracking_uri):
        return None
    with connected(tracking_uri) as client:
        return find_champion(client, name)


def _here(version: "ModelVersion") -> Champion | None:
    """The champion where its model is in a folder."""
    folder = local_folder(str(version.source))
    return Champion(str(version.version), folder, source=str(version.source)) if folder else None


def _downloaded(
    version: "ModelVersion", tracking_uri: str, downloads: str, with_knowledge_base: bool = False
) -> Champion:
    number, source, base = str(version.version), str(version.source), None
    try:
        folder = download(source, tracking_uri, downloads)
        registered = version.tags.get("model_hash")
        if registered and (found := content_hash(folder)) != registered:
            raise RegistryError(
                f"{source}: not the files that were registered as version {number} (their hash begins with "
                f"{found[:12]}, not with {registered[:12]}); put those back there"
            )
        if with_knowledge_base and version.run_id:
            with downloading(f"the knowledge base of {source}", downloads), connected(tracking_uri) as client:
                base = logged_knowledge_base(client, version.run_id, downloads)
    except (RegistryError, StorageError) as error:  # no champion is lost by it
        return Champion(number, None, str(error), source=source)
    return Champion(number, folder, knowledge_base=base, source=source)
