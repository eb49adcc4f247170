"""A run on a KFP server, watched until it ends: a line per box, then its metrics, or the box that failed and why."""

import contextlib
import json
import time
from collections.abc import Callable, Iterable
from typing import Any

from ragtune.errors import ClusterError
from ragtune.kubeflow.box_log import last_exception
from ragtune.kubeflow.client import ENDED, get_run
from ragtune.kubeflow.connection import Connection
from ragtune.kubeflow.failures import UnansweredError
from ragtune.registry.unchanged import UNCHANGED

EVERY = 10.0  # seconds between two looks
_LONG = 600.0  # seconds in which a pod that finds its image, GPUs and volume has begun
_WAITS = "      does a pod wait for its image, GPUs or volume? `kubectl describe pods -n {} -l pipeline/runid={}`"
_PATIENCE = 300.0  # seconds that a server may be gone while a run is watched
_FIRST_BOX = "check-inputs"
_METRICS_BOX, _METRICS = "evaluate-rag", "metrics: "  # `evaluate` writes them as JSON behind it
_POD_TEMPLATES = ("system-container-impl", "retry-system-container-impl")  # KFP's, of the pod that runs a box


def wait(
    connection: Connection,
    run_id: str,
    boxes: Iterable[str],
    say: Callable[[str], None] = print,
    every: float = EVERY,
    longest: float = 0.0,
) -> dict[str, float]:
    """Watch a run until it ends, whatever its end; a server that is gone for some minutes is waited for.

    Args:
        connection: where.
        run_id: from `submit`.
        boxes: names of the pipeline's tasks.
        say: gets the lines.
        every: seconds between two looks.
        longest: seconds after which to give up, 0 for never; the run goes on.

    Returns:
        The metrics of a run that succeeded, {} where they cannot be had (a line says why).

    Raises:
        ClusterError: it failed, was stopped or skipped (by box, with what ended it), or could not be watched further.
    """
    told: dict[str, str] = {}
    boxes, started, hinted = list(boxes), time.monotonic(), False
    heard = changed = started
    again = f"the run goes on; watch it with `python pipeline.py runs {run_id} --wait`"
    while True:
        try:
            run, heard = get_run(connection, run_id), time.monotonic()
        except UnansweredError as error:
            if time.monotonic() - heard > _PATIENCE:
                raise ClusterError(f"{error} ({again})") from None
        except ClusterError as error:
            raise ClusterError(f"{error} ({again})") from None
        else:
            before = dict(told)
            _tell(run, boxes, told, say)
            if run.state in ENDED:
                return _end(connection, run, boxes, say)
            if told != before:
                changed, hinted = time.monotonic(), False
            elif not hinted and time.monotonic() - changed > _LONG:
                hinted = True
                say(_WAITS.format(connection.namespace or "kubeflow", run_id))
        if longest and time.monotonic() - started > longest:
            raise ClusterError(f"run {run_id}: has not ended in {longest:g} s; {again}")
        time.sleep(every)


def page(connection: Connection, run_id: str) -> str:
    """The run's page in KFP's UI, where the API's address is the UI's too."""
    return f"{connection.host}/#/runs/details/{run_id}"


def rows_of(run: Any) -> list[Any]:
    """The tasks of a run as the API describes them, drivers and groups among them."""
    return (run.run_details.task_details if run.run_details else None) or []


def seconds_of(row: Any) -> float | None:
    """Seconds that a task took, its wait for a node included; None where the API does not tell, as of one that runs."""
    if not (row.start_time and row.end_time) or row.end_time < row.start_time:  # 1970 for one that has not ended
        return None
    return float((row.end_time - row.start_time).total_seconds())


def _tell(run: Any, boxes: list[str], told: dict[str, str], say: Callable[[str], None]) -> None:
    """Say what has changed since the last look: a line when a box begins, and one when it has ended."""
    rows = [row for row in rows_of(run) if row.display_name in boxes]
    for row in sorted(rows, key=lambda row: (row.state not in ENDED, str(row.end_time))):
        ended = row.state in ENDED
        if told.get(row.display_name) == row.state or not (ended or row.state == "RUNNING"):
            continue
        told[row.display_name] = row.state
        number = sum(state in ENDED for state in told.values()) + (not ended)
        seconds = seconds_of(row) if ended else None
        took = " " * 8 + "…" if seconds is None else f"{seconds:7.1f} s"
        name = row.display_name.replace("-", "_")
        say(f"[{number}/{len(boxes)}] {name:<20} {took}   {row.state.lower()}")


def _end(connection: Connection, run: Any, boxes: list[str], say: Callable[[str], None]) -> dict[str, float]:
    where = page(connection, run.run_id)
    if run.state == "SUCCEEDED":
        first = log_of_box(connection, run, _FIRST_BOX).splitlines()
        unchanged = [line for line in first if line.startswith(UNCHANGED)]
        metrics = {} if unchanged else metrics_of(connection, run, say)
        for line in unchanged:
            say(line)
        say(f"run succeeded: {where}")
        return metrics
    if run.state in ("CANCELED", "SKIPPED"):
        how = "was stopped by somebody" if run.state == "CANCELED" else "was skipped by KFP"
        raise ClusterError(f"run {run.run_id}: {how} ({run.state}); see {where}")
    why = failure_of(connection, run, boxes) or (
        (_message(run) or "KFP's API names no box that failed") + " (a pod that could not be made, or a time limit)"
    )
    raise ClusterError(f"run {run.run_id}: {run.state}; {why}. See {where}")


def failure_of(connection: Connection, run: Any, boxes: list[str]) -> str:
    """The box that failed and what ended it: from its pod's log, else what KFP's database holds; "" for no box."""
    kept = {row.display_name: row for row in rows_of(run) if row.state == "FAILED"}
    for box in boxes:
        if box in kept:
            return f"the box {box.replace('-', '_')} failed: {_reason(connection, run, kept[box])}"
        if f"{box}-driver" in kept:
            reason = _message(kept[f"{box}-driver"]) or "see its driver's log there"
            return f"the box {box.replace('-', '_')} could not start: {reason}"
    return ""


def _reason(connection: Connection, run: Any, row: Any) -> str:
    log = _log(connection, run, row)
    if exception := last_exception(log):
        return exception
    if log.strip():
        return (
            f"no exception in its log, so most often the memory ran out; its last line: {log.strip().splitlines()[-1]}"
        )
    return _message(row) or "neither KFP's API nor its pod's log tells why"


def _message(thing: Any) -> str:
    history = [status.error for status in thing.state_history or [] if status.error]
    errors = [error.message for error in (thing.error, *reversed(history)) if error and error.message]
    return errors[0] if errors else ""


def log_of_box(connection: Connection, run: Any, box: str) -> str:
    """The log of a box, "" where it cannot be had."""
    row = next((row for row in rows_of(run) if row.display_name == box), None)
    return _log(connection, run, row) if row else ""


def metrics_of(connection: Connection, run: Any, say: Callable[[str], None]) -> dict[str, float]:
    """Those that the evaluation wrote into its log, as KFP's REST API has no metrics."""
    for line in reversed(log_of_box(connection, run, _METRICS_BOX).splitlines()):
        _, found, text = line.partition(_METRICS)
        if found:
            with contextlib.suppress(ValueError, AttributeError, TypeError):  # a line cut short, or another library's
                return {name: float(value) for name, value in json.loads(text).items()}
    say("no metrics here: KFP's API has none, and the evaluation's log cannot be read; the run's page has them")
    return {}


def _log(connection: Connection, run: Any, row: Any) -> str:
    """The log of a box's pod, "" where it cannot be had.

    The API names the pod itself, or the box's child by its node's id, `<workflow>-<hash>`; the pod's name has the
    template between the two.
    """
    children = [child.pod_name for child in row.child_tasks or [] if child.pod_name]
    nodes = [child.rpartition("-") for child in children]
    pods = [row.pod_name] if row.pod_name else []
    pods += [f"{workflow}-{template}-{number}" for workflow, _, number in nodes for template in _POD_TEMPLATES]
    for pod in (*pods, *children):
        try:
            return connection.log_of(run.run_id, pod)
        except ClusterError:
            continue  # the next name; where none is right, the caller says that there is no log
    return ""
