"""Runs on a KFP server: start, list, stop."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import kfp_server_api

from ragtune.errors import ClusterError
from ragtune.kubeflow.connection import Connection, named
from ragtune.kubeflow.failures import RefusedError

if TYPE_CHECKING:
    from ragtune.kubeflow.package import Version  # which imports kfp's compiler, and that cannot be had in a box

ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
_LONGEST_NAME = 128
_ARCHIVED = "ARCHIVED"


def submit(
    connection: Connection,
    version: "Version",
    parameters: Mapping[str, Any],
    experiment: str,
    name: str,
    service_account: str = "",
) -> str:
    """Start a run.

    Args:
        connection: where.
        version: of the pipeline, from `upload`.
        parameters: those that differ from the pipeline's defaults.
        experiment: its name; it is made if need be.
        name: of the run; need not be unique.
        service_account: of the run's pods; "" takes KFP's own.

    Returns:
        The run's id.

    Raises:
        ClusterError: the server refuses, or does not answer.
    """
    run = kfp_server_api.V2beta1Run(
        display_name=checked_name(name, "name"),
        experiment_id=experiment_id(connection, experiment),
        pipeline_version_reference=kfp_server_api.V2beta1PipelineVersionReference(
            pipeline_id=version.pipeline_id, pipeline_version_id=version.version_id
        ),
        runtime_config=kfp_server_api.V2beta1RuntimeConfig(parameters=dict(parameters)),
        service_account=service_account or None,
    )
    return connection.call(f"starting the run {name}", connection.runs.run_service_create_run, run).run_id


def get_run(connection: Connection, run_id: str) -> Any:
    """A run as the API describes it.

    Raises:
        ClusterError: there is none of that id, or no answer.
    """
    return connection.call(f"looking at the run {run_id}", connection.runs.run_service_get_run, run_id)


def list_runs(connection: Connection, experiment: str = "", most: int = 20) -> list[Any]:
    """The newest runs, of one experiment or of all of the namespace.

    Raises:
        ClusterError: there is no such experiment, or no answer.
    """
    options: dict[str, Any] = {"page_size": most, "sort_by": "created_at desc"}
    if experiment:
        found = _find_experiment(connection, experiment)
        if found is None:
            raise ClusterError(f"--experiment {experiment}: there is none of that name; omit it to see all runs")
        options["experiment_id"] = found.experiment_id
    elif connection.namespace:
        options["namespace"] = connection.namespace
    return connection.call("listing the runs", connection.runs.run_service_list_runs, **options).runs or []


def stop(connection: Connection, run_id: str) -> str:
    """Stop a run; its boxes are ended, what they have finished stays.

    Returns:
        The state that the run was in; one that had ended already is left as it is.

    Raises:
        ClusterError: there is none of that id, or no answer.
    """
    state = get_run(connection, run_id).state
    if state not in ENDED:
        connection.call(f"stopping the run {run_id}", connection.runs.run_service_terminate_run, run_id)
    return state


def experiment_id(connection: Connection, name: str) -> str:
    """The id of an experiment in the connection's namespace, which is made if need be.

    Raises:
        ClusterError: it is archived, or the server refuses.
    """
    found = _find_experiment(connection, checked_name(name, "experiment"))
    if found is None:
        wanted = kfp_server_api.V2beta1Experiment(display_name=name, namespace=connection.namespace or None)
        call = connection.experiments.experiment_service_create_experiment
        try:
            return connection.call(f"making the experiment {name}", call, wanted).experiment_id
        except RefusedError as error:
            found = _find_experiment(connection, name) if error.status == 409 else None
            if found is None:
                raise
    if found.storage_state == _ARCHIVED:
        raise ClusterError(f"--experiment {name}: is archived; restore it in KFP's UI, or give another")
    return found.experiment_id


def checked_name(name: str, kind: str) -> str:
    """Refuse a display name that KFP refuses, or would show as another."""
    if not name.strip() or len(name) > _LONGEST_NAME:
        raise ClusterError(f"--{kind} {name!r}: give 1 to {_LONGEST_NAME} letters")
    return name


def _find_experiment(connection: Connection, name: str) -> Any:
    options = {"namespace": connection.namespace} if connection.namespace else {}
    call = connection.experiments.experiment_service_list_experiments
    found = connection.call(f"looking for the experiment {name}", call, filter=named(name), **options).experiments
    return found[0] if found else None
