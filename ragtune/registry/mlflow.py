"""Registration in MLflow: a run with figures and lineage, a version that points at the model, the `champion` alias.

The version's model lies where the next run can read it, as a run's own folder may be gone by then: beside the database
(hard links, where both are on one volume), or in the artifacts of a server.
"""

import contextlib
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragtune.errors import RegistryError
from ragtune.locks import locked
from ragtune.registry.champion import find_champion, move_champion
from ragtune.registry.connection import artifact_root, connected, database_file, is_server
from ragtune.registry.evaluated import PREDICTIONS, Evaluated, hash_of
from ragtune.registry.kept_models import keep_model
from ragtune.registry.lineage import collect_lineage
from ragtune.registry.pins import log_knowledge_base, pin_knowledge_base
from ragtune.registry.promotion import AUTO, FORCE, MIN_QUESTIONS, Decision, check_promotion, decide_promotion
from ragtune.settings.pipeline import PARAMETERS
from ragtune.settings.setting import check
from ragtune.uris import shown

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

_NAME = re.compile(r"\w[\w.\- ]*")
_KEY_TAG, _EVALUATION_TAG = "ragtune.registration", "ragtune.evaluation"  # of the run
_PROMOTED_TAG, REASON_TAG = "ragtune.promoted", "ragtune.promotion_reason"  # of the version, as the next four
_BASELINE_TAG, EVIDENCE_TAG = "ragtune.baseline", "ragtune.evidence"
RUN_TAG, COMPARED_TAG = "ragtune.run", "ragtune.compared_with"  # what it came from; the champion that it was judged by
NO_CHAMPION, _NOT_COMPARED = "none", "unknown"
_EVALUATION_FILES = ("metrics.json", PREDICTIONS, "facts.json", "report.html")
_PARAMETER_PREFIXES = ("config.", "parameters.")  # of the lineage: what one compares runs by
_LONGEST_VALUE = 6000  # MLflow's own limit for a parameter, in characters
_MOST_PARAMETERS = 100  # in one of its batches
_REGISTER_SECONDS = 1800.0  # to wait for other registrations, each of which may copy a large model


@dataclass(frozen=True)
class Registration:
    """The outcome of a registration.

    Attributes:
        name: the registered model.
        version: its version, from 1.
        promoted: whether this version is champion, as the registration ends.
        reason: of the decision, in words.
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
    knowledge_base: str | Path = "",
    run_id: str = "",
    model_uri: str = "",
    promote: str = AUTO,
    min_questions: int = MIN_QUESTIONS,
    run_key: str = "",
    mirror: Callable[[Registration], object] | None = None,
) -> Registration:
    """Register a model as a version of `name`; make it champion if `decide_promotion` says so.

    A model is one version, however often it is registered: the same evaluation gives the same decision back, a new one
    is decided again, and a registration that was cut short is completed. The alias is read under the lock.

    Args:
        model_folder: what `save_model` wrote.
        evaluation_folder: what `evaluate` wrote: metrics.json, predictions.jsonl, facts.json, and the report, if it is
            there.
        name: of the registered model, and of the MLflow experiment.
        tracking_uri: "sqlite:///…/mlflow.db" or a folder (then mlflow.db in it; artifacts lie beside), or http(s)://….
        lineage: data hashes, parameters and whatever else the run knows; `collect_lineage` says what is added.
        workspace: folder that every run sees; it gets the models, unless a server does, and where there is no SQLite
            database the lock that lets one registration at a time through. "" takes the folder of the SQLite database;
            a server without a workspace has no lock.
        knowledge_base: place of the model's own, whose files are kept as artifacts beside the model, where no workspace
            keeps them; "" where one does.
        run_id: what identifies the registration; by default the hash of the model.
        model_uri: where the model lies for others (s3://…); it is then not copied.
        promote, min_questions: see `decide_promotion`.
        run_key: by which `ragtune.registry.unchanged` knows a run that would lead to this version again.
        mirror: is given the registration before the next one can begin, such as to tell another registry.

    Raises:
        ParameterError: `min_questions` is below 1.
        RegistryError: the registry cannot be reached or refuses, a file of the evaluation is missing, or `run_id`
            has been used for another model.
        StorageError: the model cannot be copied, or another registration goes on for longer than half an hour.
    """
    check_name(name)
    check_promotion(promote)
    check(PARAMETERS, {"min_test_questions": min_questions})
    evaluation = Evaluated.read(Path(evaluation_folder))
    facts = collect_lineage(model_folder, lineage)
    shared = _shared_folder(tracking_uri, workspace)
    with connected(tracking_uri) as client, _one_at_a_time(tracking_uri, shared):
        run = _open_run(client, name, tracking_uri, run_id or facts["model_hash"])
        _check_same_model(run, facts)
        version = _version_of_run(client, name, run)
        if version is None or run.data.tags.get(_EVALUATION_TAG) != evaluation.identity:
            _log_run(client, run, evaluation, facts)
            _log_files(client, run, evaluation, facts)
        if version is None:
            keep = None if is_server(tracking_uri) else shared
            if knowledge_base:
                log_knowledge_base(client, run.info.run_id, knowledge_base)
            source = model_uri or _place_model(client, run, Path(model_folder), keep, name, facts["model_hash"])
            version = _create_version(client, name, run, source, evaluation.metrics, facts)
        holder = f'model "{name}" version {version.version} in {shown(tracking_uri)}'
        pin_knowledge_base(model_folder, workspace, holder)
        reason = _settle(client, name, version, evaluation, promote, min_questions)
        if run_key:
            client.set_model_version_tag(name, version.version, RUN_TAG, run_key)
        champion = find_champion(client, name)
        client.set_terminated(run.info.run_id)
        registration = Registration(
            name=name,
            version=int(version.version),
            promoted=champion is not None and champion.version == version.version,
            reason=reason,
            run_id=run.info.run_id,
            model_uri=str(version.source),
            metrics=evaluation.metrics,
            lineage=facts,
        )
        if mirror:
            mirror(registration)
    return registration


def check_name(name: str) -> None:
    """Raises RegistryError where no model can be registered under `name`."""
    if not _NAME.fullmatch(name):
        raise RegistryError(f'model name "{name}": use letters, digits, spaces and . _ - only, a letter or digit first')


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


def _log_run(client: "MlflowClient", run: "Run", evaluation: Evaluated, facts: Mapping[str, str]) -> None:
    """Log metrics under names that MLflow allows (recall_at_5_after), parameters, and other lineage as tags."""
    from mlflow.entities import Metric, Param, RunTag

    number, now = run.info.run_id, int(1000 * time.time())
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
    metrics = [Metric(name.replace("@", "_at_"), float(value), now, 0) for name, value in evaluation.metrics.items()]
    client.log_batch(number, metrics=metrics, tags=tags)
    for start in range(0, len(parameters), _MOST_PARAMETERS):
        client.log_batch(number, params=parameters[start : start + _MOST_PARAMETERS])


def _log_files(client: "MlflowClient", run: "Run", evaluation: Evaluated, facts: Mapping[str, str]) -> None:
    for name in _EVALUATION_FILES:
        if (evaluation.folder / name).is_file():
            client.log_artifact(run.info.run_id, str(evaluation.folder / name))
    client.log_dict(run.info.run_id, dict(facts), "lineage.json")
    client.set_tag(run.info.run_id, _EVALUATION_TAG, evaluation.identity)


def _shared_folder(tracking_uri: str, workspace: str | Path) -> Path | None:
    database = database_file(tracking_uri)
    return Path(workspace).absolute() if workspace else database.parent if database else None


def _one_at_a_time(tracking_uri: str, shared: Path | None) -> contextlib.AbstractContextManager[None]:
    """Beside the database, if there is one: runs with different workspaces may share it."""
    database = database_file(tracking_uri)
    place = database.parent if database else shared
    return locked(place / ".register.lock", _REGISTER_SECONDS) if place else contextlib.nullcontext()


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


def _settle(
    client: "MlflowClient",
    name: str,
    version: "ModelVersion",
    evaluation: Evaluated,
    promote: str,
    min_questions: int,
) -> str:
    """Decide, move the alias, and record why; the reason. A decision on the same evidence stands."""
    evidence = hash_of(evaluation.identity, promote, str(min_questions))
    if version.tags.get(EVIDENCE_TAG) == evidence:
        return str(version.tags[REASON_TAG])
    champion, told = find_champion(client, name), evaluation.champion
    if champion is not None and champion.version == version.version:  # a registration was cut short, or evaluated again
        decision = Decision(True, "it is the champion already")
    else:
        decision = decide_promotion(
            evaluation.predictions,
            told.get("version", ""),
            str(champion.version) if champion else "",
            *(told.get(name, "") for name in ("problem", "note")),
            promote=promote,
            min_questions=min_questions,
            metric=evaluation.metric,
        )
    if decision.promote:
        overtaken = move_champion(client, name, version, champion, force=promote == FORCE)
        if overtaken:
            reason = f"{overtaken}; run the pipeline again. Before that: {decision.reason}"
            decision = replace(decision, promote=False, stale=True, reason=reason)
    tags = {
        REASON_TAG: decision.reason,
        _PROMOTED_TAG: str(decision.promote).lower(),
        _BASELINE_TAG: str(decision.baseline).lower(),
        COMPARED_TAG: _NOT_COMPARED if told.get("problem") else told.get("version") or NO_CHAMPION,
        EVIDENCE_TAG: "" if decision.stale else evidence,  # last: what is cut short before it is decided again
    }
    for tag, value in tags.items():
        client.set_model_version_tag(name, version.version, tag, value)
    return decision.reason
