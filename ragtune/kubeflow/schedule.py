"""Schedules on a KFP server (its recurring runs): make or replace, pause, resume, delete, list."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import kfp_server_api

from ragtune.errors import ClusterError, ParameterError
from ragtune.kubeflow.client import checked_name, experiment_id
from ragtune.kubeflow.connection import Connection, named
from ragtune.kubeflow.cron import Cron
from ragtune.kubeflow.package import Version

MOST_AT_ONCE = 10  # KFP's limit of max_concurrency
_PAGE = 100
_ORPHAN = "ORPHAN"  # deleting a schedule leaves its runs alone; KFP's default ends those under way
_SHOWN_TIMES = 3


@dataclass(frozen=True)
class Made:
    """A schedule that was made.

    Attributes:
        retired: ids of those of the same name that it replaced.
        paused: whether it is paused, as those were.
    """

    recurring_run_id: str
    retired: list[str]
    paused: bool


def trigger(cron: str = "", every: int = 0) -> Any:
    """The times of a schedule: by a cron expression of 5 or 6 fields, or every so many seconds.

    Raises:
        ParameterError: neither or both, or one that is not possible.
    """
    if bool(cron) == bool(every):
        raise ParameterError("a schedule needs a --cron expression or an interval (--every), one of the two")
    if cron:
        parsed = Cron.parse(cron)
        if next(parsed.after(datetime.now(UTC)), None) is None:
            raise ParameterError(f"cron {cron!r}: no such date comes in five years; change its day or month")
        return kfp_server_api.V2beta1Trigger(cron_schedule=kfp_server_api.V2beta1CronSchedule(cron=parsed.text))
    if every < 1:
        raise ParameterError(f"--every {every}: give at least one second")
    return kfp_server_api.V2beta1Trigger(
        periodic_schedule=kfp_server_api.V2beta1PeriodicSchedule(interval_second=str(every))
    )


def schedule(
    connection: Connection,
    version: Version,
    parameters: Mapping[str, Any],
    experiment: str,
    name: str,
    when: Any,
    pinned: bool = False,
    at_once: int = 1,
    service_account: str = "",
) -> Made:
    """Make a schedule; one of the same name and pipeline is retired after the new one stands.

    KFP cannot edit a schedule. Where the old one is paused, the new one is too. Runs that the old one has begun go on.

    Args:
        connection: where.
        version: of the pipeline, from `upload`.
        parameters: those that differ from the pipeline's defaults.
        experiment: its name; it is made if need be.
        name: of the schedule.
        when: from `trigger`.
        pinned: always run this version; else the newest there is when a run begins.
        at_once: runs at the same time; a further one waits.
        service_account: of the runs' pods; "" takes KFP's own.

    Raises:
        ParameterError: `at_once` is not possible.
        ClusterError: the server refuses, or does not answer; the old one stands.
    """
    if not 1 <= at_once <= MOST_AT_ONCE:
        raise ParameterError(f"--at-once {at_once}: KFP takes 1 to {MOST_AT_ONCE}")
    old = [one for one in _named(connection, checked_name(name, "name")) if _pipeline_id(one) == version.pipeline_id]
    paused = bool(old) and all(one.status == "DISABLED" for one in old)
    wanted = kfp_server_api.V2beta1RecurringRun(
        display_name=name,
        experiment_id=experiment_id(connection, experiment),
        namespace=connection.namespace or None,
        pipeline_version_reference=kfp_server_api.V2beta1PipelineVersionReference(
            pipeline_id=version.pipeline_id, pipeline_version_id=version.version_id if pinned else None
        ),
        runtime_config=kfp_server_api.V2beta1RuntimeConfig(parameters=dict(parameters)),
        trigger=when,
        mode="DISABLE" if paused else "ENABLE",
        max_concurrency=str(at_once),
        no_catchup=True,  # what was missed would only train on the same data again
        service_account=service_account or None,
    )
    make = connection.schedules.recurring_run_service_create_recurring_run
    made = connection.call(f"making the schedule {name}", make, wanted)
    for one in old:
        try:
            delete(connection, one)
        except ClusterError as error:
            raise ClusterError(
                f"the new schedule {made.recurring_run_id} stands, but the old one does too, and both run: {error}. "
                f"Then `python pipeline.py schedule {one.recurring_run_id} --delete`"
            ) from None
    return Made(made.recurring_run_id, [one.recurring_run_id for one in old], paused)


def list_schedules(connection: Connection) -> list[Any]:
    """All schedules of the namespace, as the API describes them."""
    return list(_pages(connection, {}))


def find(connection: Connection, name: str) -> Any:
    """The one schedule of a name or an id.

    Raises:
        ClusterError: there is none, or several have the name.
    """
    found = [one for one in list_schedules(connection) if name in (one.recurring_run_id, one.display_name)]
    if not found:
        raise ClusterError(f"{name}: there is no such schedule; see `python pipeline.py schedules`")
    if len(found) > 1:
        ids = ", ".join(one.recurring_run_id for one in found)
        raise ClusterError(f"{name}: {len(found)} schedules have this name; give one's id: {ids}")
    return found[0]


def pause(connection: Connection, one: Any) -> None:
    """Begin no further runs until `resume`; those under way go on."""
    call = connection.schedules.recurring_run_service_disable_recurring_run
    connection.call(f"pausing the schedule {one.display_name}", call, one.recurring_run_id)


def resume(connection: Connection, one: Any) -> None:
    """Begin runs again, from the next time on; what was missed is not made up for."""
    call = connection.schedules.recurring_run_service_enable_recurring_run
    connection.call(f"resuming the schedule {one.display_name}", call, one.recurring_run_id)


def delete(connection: Connection, one: Any) -> None:
    """Delete a schedule and leave its runs alone, also those under way."""
    call = connection.schedules.recurring_run_service_delete_recurring_run
    doing = f"deleting the schedule {one.display_name}"
    connection.call(doing, call, one.recurring_run_id, propagation_policy=_ORPHAN)


def zone(name: str) -> tzinfo:
    """A time zone by its name, such as Europe/Berlin.

    Raises:
        ParameterError: there is none of that name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ParameterError(f"--time-zone {name}: is no time zone; write it as UTC or Europe/Berlin") from None


def in_words(one: Any) -> str:
    """A schedule's trigger as text: `cron 0 0 3 * * 1` or `every 3600 s`."""
    if one.trigger.cron_schedule:
        return f"cron {one.trigger.cron_schedule.cron}"
    return f"every {one.trigger.periodic_schedule.interval_second} s"


def next_times(one: Any, now: datetime) -> list[datetime]:
    """The next times of a schedule, in the zone of `now`; [] where it is paused, or was written by another tool so that
    they cannot be told.

    KFP's API does not tell them. An interval is counted from when the schedule was made, so a run that KFP began late
    shifts the later ones.
    """
    if one.status == "DISABLED":
        return []
    if one.trigger.cron_schedule:
        try:
            return list(islice(Cron.parse(one.trigger.cron_schedule.cron).after(now), _SHOWN_TIMES))
        except ParameterError:
            return []
    step = timedelta(seconds=int(one.trigger.periodic_schedule.interval_second))
    passed = max(0, (now - one.created_at) // step)
    return [(one.created_at + step * (passed + number)).astimezone(now.tzinfo) for number in range(1, _SHOWN_TIMES + 1)]


def _named(connection: Connection, name: str) -> Iterator[Any]:
    return _pages(connection, {"filter": named(name)})


def _pages(connection: Connection, options: dict[str, Any]) -> Iterator[Any]:
    call = connection.schedules.recurring_run_service_list_recurring_runs
    options = options | ({"namespace": connection.namespace} if connection.namespace else {}) | {"page_size": _PAGE}
    while True:
        answer = connection.call("listing the schedules", call, **options)
        yield from answer.recurring_runs or []
        if not answer.next_page_token:
            return
        options["page_token"] = answer.next_page_token


def _pipeline_id(one: Any) -> str:
    return one.pipeline_version_reference.pipeline_id if one.pipeline_version_reference else ""
