"""The summary that a run's exit handler leaves: how the run ended, its boxes, its metrics, or what failed and why."""

from dataclasses import dataclass, field
from pathlib import Path

from ragtune.errors import ClusterError
from ragtune.kubeflow.box_log import last_exception
from ragtune.kubeflow.client import get_run
from ragtune.kubeflow.connection import Connection, connect
from ragtune.kubeflow.run_folder import EXECUTOR_OUTPUT, box_metrics, table
from ragtune.kubeflow.watching import failure_of, log_of_box, metrics_of, rows_of, seconds_of
from ragtune.registry.unchanged import UNCHANGED

BOXES = (
    "check_inputs",
    "filter_questions",
    "split_passages",
    "ingest_passages",
    "check_answerability",
    "tokenize_pairs",
    "finetune_rag",
    "evaluate_rag",
    "register_model",
)
_TOLD = ("training starts from ", UNCHANGED, "version ")  # lines of the logs that a summary repeats
_LOG = "log.txt"  # of a local run, beside the folder of its boxes
_ANSWER_WITHIN_SECONDS = (5.0, 15.0)


@dataclass
class Ended:
    """The end of a run, as far as it is known.

    Attributes:
        boxes: state of each box that was begun, by name.
        seconds: that a box took, by name, of those where it is known.
        failure: the box that failed, and what ended it; "" for none.
        told: lines that say what the run started from and led to.
        metrics: of the evaluation.
        unknown: why no more is known; "" if all is.
    """

    boxes: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    failure: str = ""
    told: list[str] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    unknown: str = ""


def summarize(state: str, run_id: str, place: str | Path, connection: Connection | None = None) -> str:
    """Summarize a run in Markdown, whatever can be found out about it; nothing that fails here fails the run.

    Args:
        state: of the boxes together, as KFP tells an exit handler: SUCCEEDED or COMPLETE, FAILED, …
        run_id: the run's, on a cluster.
        place: of the summary itself: `kfp.local` has the other boxes' outputs beside it.
        connection: to KFP's API; None connects to the one of this pod's cluster.
    """
    boxes = Path(place).parents[1]
    if (boxes / BOXES[0].replace("_", "-")).is_dir():
        ended = _from_folder(boxes)
    else:
        try:
            ended = _from_cluster(connection or connect(seconds=_ANSWER_WITHIN_SECONDS), run_id)
        except ClusterError as error:  # KFP asks a pod in a profile for a token that it may not have
            ended = Ended(unknown=f"KFP's API tells this pod no more: {error}")
    return _markdown(state, ended)


def _from_folder(boxes: Path) -> Ended:
    """The end of a local run; the box that failed has a folder, and no outputs."""
    folders = {box: boxes / box.replace("_", "-") for box in BOXES}
    begun = {box: folder for box, folder in folders.items() if folder.is_dir()}
    states = {box: "succeeded" if (path / EXECUTOR_OUTPUT).exists() else "failed" for box, path in begun.items()}
    log = _read(boxes.parents[1] / _LOG)
    failed = [box for box, state in states.items() if state == "failed"]
    failure = f"the box {failed[0]} failed: {last_exception(log) or 'see its log'}" if failed else ""
    metrics = box_metrics(boxes.parent, "evaluate_rag") if states.get("evaluate_rag") == "succeeded" else {}
    return Ended(states, failure=failure, told=_told(log), metrics=metrics)


def _from_cluster(connection: Connection, run_id: str) -> Ended:
    run = get_run(connection, run_id)
    names = {box.replace("_", "-"): box for box in BOXES}
    rows = {names[row.display_name]: row for row in rows_of(run) if row.display_name in names}
    states = {box: str(row.state).lower() for box, row in rows.items()}
    seconds = {box: took for box, row in rows.items() if (took := seconds_of(row)) is not None}
    told = [line for box in ("check-inputs", "register-model") for line in _told(log_of_box(connection, run, box))]
    silent: list[str] = []
    metrics = metrics_of(connection, run, silent.append) if states.get("evaluate_rag") == "succeeded" else {}
    failure = failure_of(connection, run, list(names))
    return Ended(states, seconds, failure, told, metrics, "; ".join(silent))


def _told(log: str) -> list[str]:
    return [line.strip() for line in log.splitlines() if line.strip().startswith(_TOLD)]


def _markdown(state: str, ended: Ended) -> str:
    parts = [f"# The run {_outcome(state, ended)}"]
    parts += [line for line in (ended.failure, *ended.told, ended.unknown) if line]
    if ended.metrics:
        parts.append(f"```\n{table(ended.metrics)}\n```")
    if ended.boxes:
        parts.append("\n".join(_rows(ended)))
    return "\n\n".join(parts) + "\n"


def _outcome(state: str, ended: Ended) -> str:
    if ended.failure or state == "FAILED":
        return "failed"
    if state.startswith("CANCEL"):  # CANCELED, CANCELLED, CANCELING
        return "was stopped"
    return "was not needed" if any(line.startswith(UNCHANGED) for line in ended.told) else "succeeded"


def _rows(ended: Ended) -> list[str]:
    rows = [["box", "state", "seconds"], ["---", "---", "--:"]]
    rows += [
        [box, ended.boxes[box], f"{ended.seconds[box]:,.0f}" if box in ended.seconds else ""]
        for box in BOXES
        if box in ended.boxes
    ]
    columns = 3 if ended.seconds else 2
    return ["| " + " | ".join(row[:columns]) + " |" for row in rows]


def _read(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
