"""The folder of a local run: its own from the start, and in the end with the metrics, the report and the model."""

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ragtune import strict_json
from ragtune.errors import RagtuneError, StorageError
from ragtune.evaluation.report import report_from_folder
from ragtune.files import atomic_file, describe_write_error
from ragtune.locks import locked
from ragtune.settings.pipeline import SKIP

_LOCK, _PARAMETERS, _METRICS = ".run.lock", "parameters.json", "metrics.json"
LATEST, SUMMARY = "latest", "summary.md"
EXECUTOR_OUTPUT = "executor_output.json"  # kfp.local's, in a box's folder
UNCHANGED = "unchanged"  # in place of all metrics
HEADLINE_METRICS = {"EM": "em", "F1": "f1", "recall@5": "recall@5"}


def new_folder(runs: Path) -> Path:
    """Make a folder in `runs` named by the time, with a number behind it where another run began in the same second."""
    name, number = time.strftime("%Y-%m-%d-%H%M%S"), 1
    folder = runs / name
    while True:
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1
            folder = runs / f"{name}-{number}"
        except OSError as error:
            raise describe_write_error(error, folder) from error


@contextlib.contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Hold `folder` for one run, from before its first file; the system gives it back if the process is killed.

    Raises:
        StorageError: another run is under way there or has been, it holds something else, or it may not be written.
    """
    if folder.name == LATEST:
        raise StorageError(f"{folder}: this name is the link to the last finished run; give another --output")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = _names(folder)
    except (FileExistsError, NotADirectoryError) as error:
        raise StorageError(f"{folder}: there is a file in the way; give another --output") from error
    except OSError as error:
        raise describe_write_error(error, folder) from error
    if there and _LOCK not in there:  # nothing is written into a folder that is not ours
        raise _not_free(folder, there)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(folder / _LOCK))
        except StorageError as error:
            if not isinstance(error.__cause__, BlockingIOError):
                raise
            raise StorageError(
                f"{folder}: another run is under way there; wait for it, or give this one another --output"
            ) from error
        there = _names(folder)
        if there != {_LOCK}:
            raise _not_free(folder, there)
        yield


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _not_free(folder: Path, there: set[str]) -> StorageError:
    if _METRICS in there:
        return StorageError(f"{folder}: holds a finished run; give this one another --output, or remove the folder")
    if there & {_LOCK, _PARAMETERS}:
        return StorageError(
            f"{folder}: holds a run that did not finish, see log.txt there. Remove the folder, or give another "
            "--output: what was embedded and trained is in the workspace, and the same parameters resume it"
        )
    return StorageError(f"{folder}: holds other files; give an --output that is new or empty")


def box_folder(boxes: Path, box: str) -> Path:
    """The folder of a box's outputs by kfp.local: boxes/<pipeline and time>/<box>, of the newest such run."""
    found = sorted(boxes.glob(f"*/{box.replace('_', '-')}"))
    if not found:
        raise RagtuneError(f"{boxes}: no outputs of {box} there; did the run end early? See log.txt beside it")
    return found[-1]


def box_metrics(boxes: Path, box: str) -> dict[str, float]:
    """Read the KFP Metrics that a box logged, {} if it has none."""
    outputs = _outputs(boxes, box)
    artifacts = outputs.get("artifacts", {}).get("metrics", {}).get("artifacts", [])
    return artifacts[0]["metadata"] if artifacts else {}


def _outputs(boxes: Path, box: str) -> dict[str, Any]:
    return json.loads((box_folder(boxes, box) / EXECUTOR_OUTPUT).read_text(encoding="utf-8"))


def finish(run: Path, boxes: Path, seconds: Mapping[str, float]) -> dict[str, float]:
    """Write metrics.json, write the report, and link model and knowledge base beside it.

    Args:
        run: the run's folder.
        boxes: where kfp.local put the boxes' outputs.
        seconds: how long each box took, by name.

    Returns:
        What metrics.json holds: every figure of the evaluation, the counts of the boxes and `seconds_<box>`; of a run
        that had nothing to train, `unchanged`.
    """
    _link(run / SUMMARY, box_folder(boxes, "summarize_run") / "summary")
    if _outputs(boxes, "check_inputs")["parameterValues"]["Output"] == SKIP:
        return _write_metrics(run, {UNCHANGED: 1}, seconds)
    filtered, split = box_metrics(boxes, "filter_questions"), box_metrics(boxes, "split_passages")
    evaluation = box_folder(boxes, "evaluate_rag") / "evaluation"
    figures = json.loads((evaluation / _METRICS).read_text(encoding="utf-8"))
    figures |= {f"questions_{name}": filtered[f"questions_{name}"] for name in ("kept", "rejected")}
    figures["passages"] = split["passages"]
    figures |= {f"training_{name}": value for name, value in box_metrics(boxes, "finetune_rag").items()}
    figures |= {f"ingestion_{name}": value for name, value in box_metrics(boxes, "ingest_passages").items()}
    figures |= {f"registry_{name}": value for name, value in box_metrics(boxes, "register_model").items()}
    links = {
        "model": box_folder(boxes, "finetune_rag") / "model",
        "knowledge_base": box_folder(boxes, "finetune_rag") / "trained_knowledge_base",
        "tensorboard": box_folder(boxes, "finetune_rag") / "tensorboard",
        "predictions.jsonl": evaluation / "predictions.jsonl",
    }
    report_from_folder(evaluation, run / "report.html", seconds)
    for name, target in links.items():
        _link(run / name, target)
    return _write_metrics(run, figures, seconds)


def _write_metrics(run: Path, figures: Mapping[str, float], seconds: Mapping[str, float]) -> dict[str, float]:
    """Write metrics.json, last of all: a run that has it is finished."""
    figures = {**figures, **{f"seconds_{box}": round(took, 3) for box, took in seconds.items()}}
    with atomic_file(run / _METRICS) as stream:
        stream.write(strict_json.dumps(dict(sorted(figures.items())), indent=2))
    return figures


def point_latest(run: Path, runs: Path) -> None:
    """Point the link `latest` in the folder `runs` at a finished run in it; a run elsewhere leaves the link alone."""
    if run.resolve().parent == runs.resolve():
        _link(runs / LATEST, run)


def summary(figures: Mapping[str, float], run: Path) -> str:
    """The small table at the end of a run, and where to look further; of a run that had nothing to train, why not."""
    if UNCHANGED in figures:
        return (run / SUMMARY).read_text(encoding="utf-8")
    return "\n".join([table(figures), "", f"report   {run / 'report.html'}", f"metrics  {run / 'metrics.json'}"])


def table(figures: Mapping[str, float]) -> str:
    """The headline metrics, before and after."""
    rows = [f"{'':<12}{'before':>9}{'after':>9}{'change':>9}"]
    for label, name in HEADLINE_METRICS.items():
        if f"{name}_before" not in figures or f"{name}_after" not in figures:
            continue
        before, after = figures[f"{name}_before"], figures[f"{name}_after"]
        rows.append(f"{label:<12}{before:>9.3f}{after:>9.3f}{after - before:>+9.3f}")
    if "em_closed_book" in figures:
        rows.append(f"{'EM, closed book':<18}{figures['em_closed_book']:>12.3f}")
    return "\n".join(rows)


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.symlink_to(os.path.relpath(target, link.parent))
    temporary.replace(link)
