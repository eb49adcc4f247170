"""A local run: a progress line a box, and in the end one folder with the figures, the report and the model."""

import io
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TextIO

from ragtune.errors import RagtuneError
from ragtune.evaluation.report import report_from_folder
from ragtune.files import atomic_file
from ragtune.progress import PROGRESS_LINE

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_STARTED = re.compile(r"Executing task '([\w-]+)'")
_FINISHED = re.compile(r"Task '([\w-]+)' finished with status (SUCCESS|FAILURE)")
_EXCEPTION = re.compile(r"^\s*(?:[\w.]+\.)?(\w*(?:Error|Exception|Interrupt)): (.*)")
_SHOWN_COUNTS = 4
HEADLINE_METRICS = {"EM": "em", "F1": "f1", "recall@5": "recall@5"}


class BoxLog(io.TextIOBase):
    """The standard output of kfp.local while a pipeline runs: all of it into a file, one line a box to the terminal.

    Attributes:
        seconds: how long each finished box took, by name.
        failure: the last exception that a box printed, "" if none did.
    """

    def __init__(self, log: TextIO, terminal: TextIO, boxes: int, counts_of: Callable[[str], Mapping[str, float]]):
        """Args:
        log: where every line goes.
        terminal: where the progress goes.
        boxes: how many boxes the pipeline has.
        counts_of: the metrics of a finished box, by its name, for its line.
        """
        self.seconds: dict[str, float] = {}
        self.failure = ""
        self._log, self._terminal, self._boxes, self._counts_of = log, terminal, boxes, counts_of
        self._rest, self._box, self._started = "", "", 0.0
        self._live = terminal.isatty()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._log.write(text)
        self._log.flush()
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._read(_COLOUR.sub("", line).rstrip())
        return len(text)

    def _read(self, line: str) -> None:
        if match := _STARTED.search(line):
            self._box, self._started = match[1].replace("-", "_"), time.monotonic()
            self._show(f"{self._heading()} …", passing=True)
        elif match := _FINISHED.search(line):
            took = self.seconds[self._box] = time.monotonic() - self._started
            self._show(f"{self._heading()} {took:7.1f} s   {self._counts() if match[2] == 'SUCCESS' else 'failed'}")
        elif match := _EXCEPTION.match(line):
            self.failure = match[2] or match[1]
        elif match := PROGRESS_LINE.search(line):
            self._show(f"      {match[0]}", passing=True)

    def _heading(self) -> str:
        number = min(len(self.seconds) + (self._box not in self.seconds), self._boxes)
        return f"[{number}/{self._boxes}] {self._box:<20}"

    def _counts(self) -> str:
        counts = {name: count for name, count in self._counts_of(self._box).items() if count}
        return ", ".join(f"{name} {count:,.4g}" for name, count in list(counts.items())[:_SHOWN_COUNTS])

    def _show(self, line: str, passing: bool = False) -> None:
        if self._live:
            self._terminal.write(f"\r\x1b[K{line}" + ("" if passing else "\n"))
        elif not line.endswith("…"):
            self._terminal.write(line + "\n")
        self._terminal.flush()


def box_folder(boxes: Path, box: str) -> Path:
    """Where kfp.local put the outputs of a box: boxes/<pipeline and time>/<box>, the newest such run."""
    found = sorted(boxes.glob(f"*/{box.replace('_', '-')}"))
    if not found:
        raise RagtuneError(f"{boxes}: no outputs of {box} there; did the run end early? See log.txt beside it")
    return found[-1]


def box_metrics(boxes: Path, box: str) -> dict[str, float]:
    """What a box logged as KFP Metrics, {} if it has none."""
    outputs = json.loads((box_folder(boxes, box) / "executor_output.json").read_text())
    artifacts = outputs.get("artifacts", {}).get("metrics", {}).get("artifacts", [])
    return artifacts[0]["metadata"] if artifacts else {}


def finish(run: Path, boxes: Path, seconds: Mapping[str, float], latest: Path) -> dict[str, float]:
    """Write metrics.json, write the report, link model and knowledge base beside it, and point `latest` at the run.

    Args:
        run: the run's folder.
        boxes: where kfp.local put the boxes' outputs.
        seconds: how long each box took, by name.
        latest: the link that points at the last finished run.

    Returns:
        What metrics.json holds: every figure of the evaluation, the counts of the boxes and `seconds_<box>`.
    """
    filtered, split = box_metrics(boxes, "filter_questions"), box_metrics(boxes, "split_passages")
    figures = dict(box_metrics(boxes, "evaluate_rag"))
    figures |= {f"questions_{name}": filtered[f"questions_{name}"] for name in ("kept", "rejected")}
    figures["passages"] = split["passages"]
    figures |= {f"training_{name}": value for name, value in box_metrics(boxes, "finetune_rag").items()}
    figures |= {f"ingestion_{name}": value for name, value in box_metrics(boxes, "ingest_passages").items()}
    figures |= {f"registry_{name}": value for name, value in box_metrics(boxes, "register_model").items()}
    figures |= {f"seconds_{box}": round(took, 3) for box, took in seconds.items()}
    links = {
        "model": box_folder(boxes, "finetune_rag") / "model",
        "knowledge_base": box_folder(boxes, "finetune_rag") / "trained_knowledge_base",
        "tensorboard": box_folder(boxes, "finetune_rag") / "tensorboard",
        "predictions.jsonl": box_folder(boxes, "evaluate_rag") / "evaluation" / "predictions.jsonl",
    }
    report_from_folder(box_folder(boxes, "evaluate_rag") / "evaluation", run / "report.html", seconds)
    for name, target in links.items():
        _link(run / name, target)
    with atomic_file(run / "metrics.json") as stream:
        json.dump(dict(sorted(figures.items())), stream, indent=2)
    _link(latest, run)
    return figures


def summary(figures: Mapping[str, float], run: Path) -> str:
    """The small table at the end of a run, and where to look further."""
    rows = [f"{'':<12}{'before':>9}{'after':>9}{'change':>9}"]
    for label, name in HEADLINE_METRICS.items():
        before, after = figures[f"{name}_before"], figures[f"{name}_after"]
        rows.append(f"{label:<12}{before:>9.3f}{after:>9.3f}{after - before:>+9.3f}")
    if "em_closed_book" in figures:
        rows.append(f"{'EM, closed book':<18}{figures['em_closed_book']:>12.3f}")
    return "\n".join([*rows, "", f"report   {run / 'report.html'}", f"metrics  {run / 'metrics.json'}"])


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.symlink_to(os.path.relpath(target, link.parent))
    temporary.replace(link)
