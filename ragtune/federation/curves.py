"""Curves of a federation in TensorBoard, by round, for all sites together and for each; written without torch."""

import time
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from ragtune.federation.rounds import Entry

_NOT_DRAWN = {"questions", "steps"}


class Curves:
    """Writes events into a folder; `federation/em` is the mean over the sites, `federation/em/berlin` one site's."""

    def __init__(self, folder: str | Path) -> None:
        """Begin a file of events."""
        self._writer = EventFileWriter(str(folder))

    def add(self, entry: Entry) -> None:
        """Write a round's metrics; `failed_sites` is the number of those that did not answer."""
        values = _flat(entry["metrics"], "") | {"failed_sites": len(entry["failed"])}
        for site, metrics in entry["sites"].items():
            values |= _flat(metrics, f"/{site}")
        scalars = [Summary.Value(tag=f"federation/{name}", simple_value=value) for name, value in values.items()]
        self._writer.add_event(Event(wall_time=time.time(), step=entry["round"], summary=Summary(value=scalars)))
        self._writer.flush()

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()


def _flat(metrics: dict[str, Any], behind: str) -> dict[str, float]:
    return {f"{name}{behind}": value for name, value in metrics.items() if name not in _NOT_DRAWN}
