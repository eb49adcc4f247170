"""Registration in MLflow: a run with figures and lineage, a version that points at the model, the `champion` alias.

The version's model lies where the next run can read it, as a run's own folder may be gone by then: beside the database
(hard links, where both are on one volume), or in the artifacts of a server.
"""

import contextlib
import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragtune.errors import RegistryError
from ragtune.files import content_hash
from ragtune.locks import locked
from ragtune.registry.connection import artifact_root, connected, database_file, is_server
from ragtune.registry.kept_models import keep_model
from ragtune.registry.lineage import collect_lineage
from ragtune.registry.promotion import Decision, decide_promotion

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
_NAME = re.compile(r"\w[\w.\- ]*")
_KEY_TAG, _PROMOTED_TAG, _REASON_TAG = "ragtune.registration", "ragtune.promoted", "ragtune.promotion_reason"
_PREDICTIONS = "predictions.jsonl"
_EVALUATION_FILES = ("metrics.json", _PREDICTIONS, "facts.json", "report.html")
_PARAMETER_PREFIXES = ("config.", "parameters.")  # of the lineage: what one compares runs by
_LONGEST_VALUE = 6000  # MLflow's own limit for a parameter, in characters
_MOST_PARAMETERS = 100  # in one of its batches
_REGISTER_SECONDS = 1800.0  # to wait for other registrations, each of which may copy a large model


@dataclass(frozen=True)
class Registration:
    """What became of a model.

    Attributes:
        name: the registered model.
        version: its version, from 1.
        promoted: whether this version was made champion.
        reason: why, or why not, in words.
        run_id: the MLflow run that holds figures and lineage.
        model_uri: where the version's model lies.
        metrics: the figures of its evaluation.
        lineage: where it comes from, as `collect_lineage` gives it.
    """

    name: str
    version: int
    promoted: bool
    reason: str
    run_id: str
    model_uri: str
    metrics: dict[str, float]
    lineage: dict[str, str]


def register(
    model_folder: str | Path,
    evaluation_folder: str | Path,
    name: str,
    tracking_uri: str,
    lineage: Mapping[str, Any] | None = None,
    *,
    workspace: str | Path = "",
    run_id: str = "",
    model_uri: str = "",
    force: bool = False,
    mirror: Callable[[Registration], object] | None = None,
) -> Registration:
    """Register a model as a new version of `name`; make it champion if `decide_promotion` says so.

    The same registration again (same `run_id`) gives the same version and decision back; one that was cut short is
    completed.

    Args:
        model_folder: what `save_model` wrote.
        evaluation_folder: what `evaluate` wrote: metrics.json, predictions.jsonl, and the report, if it is there.
        name: of the registered model, and of the MLflow experiment.
        tracking_uri: "sqlite:///…/mlflow.db" or a folder (then mlflow.db in it; artifacts lie beside), or http(s)://….
        lineage: data hashes, parameters and whatever else the run knows; `collect_lineage` says what is added.
        workspace: folder that every run sees; it gets the models, unless a server does, and the lock that lets one
            registration at a time through. "" takes the folder of the SQLite database; a server without a workspace has
            no lock.
        run_id: what identifies the registration; by default a hash of model and predictions.
        model_uri: where the model lies for others (s3://…); it is then not copied.
        force: make it champion whatever the comparison says.
        mirror: is given the registration before the next one can begin, such as to tell another registry.

    Raises:
        RegistryError: the registry cannot be reached or refuses, a file of the evaluation is missing, or `run_id`
            has been used for another model.
        StorageError: the model cannot be copied, or another registration goes on for longer than half an hour.
    """
    check_name(name)
    evaluation = Path(evaluation_folder)
    metrics, predictions = _read_evaluation(evaluation)
    facts = collect_lineage(model_folder, lineage)
    key = run_id or _key(facts["model_hash"], content_hash(evaluation / _PREDICTIONS))
    shared = _shared_folder(tracking_uri, workspace)
    with connected(tracking_uri) as client, _one_at_a_time(shared):
        run = _open_run(client, name, tracking_uri, key)
        _check_same_model(run, facts)
        version = _version_of_run(client, name, run)
        if version is None:
            _log_run(client, run, metrics, facts)
            _log_files(client, run, evaluation, facts)
            keep = None if is_server(tracking_uri) else shared
            source = model_uri or _place_model(client, run, Path(model_folder), keep, name, facts["model_hash"])
            version = _create_version(client, name, run, source, metrics, facts)
        decision = _recorded_decision(version)
        if decision is None or (force and not decision.promote):
            decision = _decide(client, name, version, predictions, force)
            _apply(client, name, version, decision)
        client.set_terminated(run.info.run_id)
        registration = Registration(
            name=name,
            version=int(version.version),
            promoted=decision.promote,
            reason=decision.reason,
            run_id=run.info.run_id,
            model_uri=str(version.source),
            metrics=metrics,
            lineage=facts,
        )
        if mirror:
            mirror(registration)
    return registration


def check_name(name: str) -> None:
    """Raises RegistryError where no model can be registered under `name`."""
    if not _NAME.fullmatch(name):
        raise RegistryError(f'model name "{name}": use letters, digits, spaces and . _ - only, a letter or digit first')


def champion_model(name: str, tracking_uri: str) -> str:
    """Where today's champion lies: the URI of its model folder.

    Raises:
        RegistryError: there is no such model or no champion, or the registry cannot be reached.
    """
    with connected(tracking_uri) as client:
        champion = _champion(client, name)
    if champion is None:
        raise RegistryError(f'{tracking_uri}: no version of "{name}" is {CHAMPION}; register a model first')
    return str(champion.source)


def _read_evaluation(folder: Path) -> tuple[dict[str, float], list[dict[str, Any]]]:
    try:
        metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
        return metrics, _read_lines(folder / _PREDICTIONS)
    except (OSError, ValueError) as error:
        raise RegistryError(f"{folder}: no whole evaluation ({error}); is it the output folder of evaluate?") from error


def _read_lines(path: Path) -> list[dict[str, Any]]:
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _key(*hashes: str) -> str:
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def _open_run(client: "MlflowClient", name: str, tracking_uri: str, key: str) -> "Run":
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        number = client.create_experiment(name, artifact_location=artifact_root(tracking_uri))
    else:
        number = experiment.experiment_id
        if experiment.lifecycle_stage == "deleted":
            client.restore_experiment(number)
    found = client.search_runs([number], f"tags.`{_KEY_TAG}` = '{key}'", max_results=1)
    return found[0] if found else client.create_run(number, run_name=key[:16], tags={_KEY_TAG: key})


def _check_same_model(run: "Run", facts: Mapping[str, str]) -> None:
    before = run.data.tags.get("model_hash", facts["model_hash"])
    if before != facts["model_hash"]:
        raise RegistryError(
            f"run {run.data.tags[_KEY_TAG]} has been registered with another model (hash {before[:12]}, now "
            f"{facts['model_hash'][:12]}); register this one under another run id"
        )


def _version_of_run(client: "MlflowClient", name: str, run: "Run") -> "ModelVersion | None":
    """The whole version that an earlier registration made of the same run; a half-made one is deleted."""
    whole = None
    for version in client.search_model_versions(f"name='{name}' and run_id='{run.info.run_id}'"):
        if version.status == "READY":
            whole = version
        else:
            client.delete_model_version(name, version.version)
    return whole


def _log_run(client: "MlflowClient", run: "Run", metrics: Mapping[str, float], facts: Mapping[str, str]) -> None:
    """Figures under names that MLflow allows (recall_at_5_after), parameters, and the rest of the lineage as tags."""
    from mlflow.entities import Metric, Param, RunTag

    number, started = run.info.run_id, run.info.start_time
    parameters = [
        Param(fact, value[:_LONGEST_VALUE]) for fact, value in facts.items() if fact.startswith(_PARAMETER_PREFIXES)
    ]
    tags = [
        RunTag(fact, value[:_LONGEST_VALUE])
        for fact, value in facts.items()
        if not fact.startswith(_PARAMETER_PREFIXES)
    ]
    if revision := facts.get("git_revision"):
        tags.append(RunTag("mlflow.source.git.commit", revision))
    figures = [Metric(figure.replace("@", "_at_"), float(value), started, 0) for figure, value in metrics.items()]
    client.log_batch(number, metrics=figures, tags=tags)
    for start in range(0, len(parameters), _MOST_PARAMETERS):
        client.log_batch(number, params=parameters[start : start + _MOST_PARAMETERS])


def _log_files(client: "MlflowClient", run: "Run", evaluation: Path, facts: Mapping[str, str]) -> None:
    for name in _EVALUATION_FILES:
        if (evaluation / name).is_file():
            client.log_artifact(run.info.run_id, str(evaluation / name))
    client.log_dict(run.info.run_id, dict(facts), "lineage.json")


def _shared_folder(tracking_uri: str, workspace: str | Path) -> Path | None:
    database = database_file(tracking_uri)
    return Path(workspace).absolute() if workspace else database.parent if database else None


def _one_at_a_time(shared: Path | None) -> contextlib.AbstractContextManager[None]:
    return locked(shared / ".register.lock", _REGISTER_SECONDS) if shared else contextlib.nullcontext()


def _place_model(
    client: "MlflowClient", run: "Run", folder: Path, shared: Path | None, name: str, model_hash: str
) -> str:
    if shared:
        return keep_model(folder, shared / "models" / name, model_hash).as_uri()
    client.log_artifacts(run.info.run_id, str(folder), "model")
    return f"{run.info.artifact_uri}/model"


def _create_version(
    client: "MlflowClient", name: str, run: "Run", source: str, metrics: Mapping[str, float], facts: Mapping[str, str]
) -> "ModelVersion":
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    described = f"EM {metrics['em_before']:.3f} before, {metrics['em_after']:.3f} after fine-tuning"
    return client.create_model_version(
        name, source, run.info.run_id, tags=dict(facts), description=described, await_creation_for=60
    )


def _recorded_decision(version: "ModelVersion") -> Decision | None:
    if _PROMOTED_TAG not in version.tags:
        return None
    return Decision(version.tags[_PROMOTED_TAG] == "true", version.tags[_REASON_TAG], 0, None)


def _decide(
    client: "MlflowClient", name: str, version: "ModelVersion", predictions: list[dict[str, Any]], force: bool
) -> Decision:
    champion = _champion(client, name)
    if champion is None:
        return decide_promotion(predictions, None)
    if champion.version == version.version:  # cut short between the alias and the tags that say why
        return Decision(True, "it is the champion already", 0, None)
    title = f"the champion, version {champion.version},"
    theirs = _predictions_of(client, champion)
    if theirs is None:
        reason = f"{title} has no {_PREDICTIONS} to compare with"
        return Decision(force, f"forced, although {reason}" if force else f"{reason}; force it", 0, None)
    return decide_promotion(predictions, theirs, title, force=force)


def _champion(client: "MlflowClient", name: str) -> "ModelVersion | None":
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # no such model; no such alias
            return None
        raise


def _predictions_of(client: "MlflowClient", version: "ModelVersion") -> list[dict[str, Any]] | None:
    if not version.run_id or _PREDICTIONS not in {file.path for file in client.list_artifacts(version.run_id)}:
        return None
    with tempfile.TemporaryDirectory() as folder:
        return _read_lines(Path(client.download_artifacts(version.run_id, _PREDICTIONS, folder)))


def _apply(client: "MlflowClient", name: str, version: "ModelVersion", decision: Decision) -> None:
    """The alias first: if this is cut short after it, the tags are made good at the next try."""
    if decision.promote:
        client.set_registered_model_alias(name, CHAMPION, version.version)
    client.set_model_version_tag(name, version.version, _REASON_TAG, decision.reason)
    client.set_model_version_tag(name, version.version, _PROMOTED_TAG, str(decision.promote).lower())
