"""The end of every benchmark: a table, one line of JSON, and a file that says where and with what it ran."""

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any, TypeVar

from ragtune.files import atomic_file

RESULTS = Path(__file__).parent / "results"
PAIRS = 3  # at least: what else the machine does, and the state of its memory, move a single ratio by half

T = TypeVar("T")


@dataclass(frozen=True)
class Ratio:
    """A ratio of two sides over alternating pairs.

    Attributes:
        median, lowest, highest: of the pairs' own ratios.
    """

    median: float
    lowest: float
    highest: float

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.lowest:.3g} to {self.highest:.3g})"

    def figures(self, name: str) -> dict[str, Any]:
        """For `report`: the median by the name, and the range."""
        return {name: round(self.median, 3), f"{name}_range": [round(self.lowest, 3), round(self.highest, 3)]}


def in_turn(sides: Mapping[str, Callable[[], T]], pairs: int = PAIRS) -> dict[str, list[T]]:
    """Run all sides one after the other, and that `pairs` times; by side, what its runs gave."""
    runs: dict[str, list[T]] = {name: [] for name in sides}
    for _ in range(pairs):
        for name, side in sides.items():
            runs[name].append(side())
    return runs


def ratio(more: Sequence[float], less: Sequence[float]) -> Ratio:
    """The ratio of two sides, pair by pair."""
    each = [one / other for one, other in zip(more, less, strict=True)]
    return Ratio(median(each), min(each), max(each))


def medians(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each figure that all runs of a side gave."""
    return {name: median(run[name] for run in runs) for name in runs[0]}


def over_seeds(values: Sequence[float]) -> str:
    """The mean, and behind it the standard deviation where there is one."""
    return f"{fmean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def report(name: str, rows: Sequence[Sequence[str]], figures: Mapping[str, Any], packages: Sequence[str]) -> None:
    """Print the table and the figures, and write results/<name>.json.

    Args:
        name: of the benchmark.
        rows: of the table, its heading first; a column is as wide as its widest cell.
        figures: what was measured, by name; units in the names.
        packages: those whose versions matter.
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        print(row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)))
    result = {
        "benchmark": name,
        **figures,
        **machine(),
        "versions": {package: version(package) for package in packages},
    }
    with atomic_file(RESULTS / f"{name}.json") as stream:
        json.dump(result, stream, indent=2)
        stream.write("\n")
    print(json.dumps(result))


def machine() -> dict[str, Any]:
    """Date, processor, cores that may be used, how many processes want them, memory."""
    processor = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    except (OSError, ValueError):
        memory = float("nan")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": processor,
        "cores": len(os.sched_getaffinity(0)),
        "threads": int(os.environ.get("OMP_NUM_THREADS", 0)) or len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),  # of the last minute; above the cores, others were at work too
        "memory_gib": round(memory, 1),
        "python": platform.python_version(),
    }
