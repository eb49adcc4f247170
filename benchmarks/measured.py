"""The end of every benchmark: a table, one line of JSON, and a file that says where and with what it ran."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ragtune.files import atomic_file

RESULTS = Path(__file__).parent / "results"


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
