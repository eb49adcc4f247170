"""Logs of all pods of a job, followed in threads, on this process's stderr as they are written."""

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ragtune.errors import ClusterError
from ragtune.training.launchers.trainjob.cluster import Cluster, RefusedError
from ragtune.training.launchers.trainjob.pod_states import has_logs, node_of

CONTAINER = "node"  # of a runtime's training container, by Kubeflow Trainer's rules
_TAIL_LINES = 100
_PAUSE = 1.0
_END_SECONDS = 15.0  # for the last lines to arrive, once the job has ended


class Logs:
    """The followers, one thread per pod that has begun to write, and the last lines of all."""

    def __init__(self, cluster: Cluster, prefixed: bool, write: Callable[[str], Any] | None = None):
        """Set up; nothing is followed yet.

        Args:
            cluster: asked for the logs.
            prefixed: begin each line with its node.
            write: gets each line, with its end; None writes to stderr.
        """
        self.cluster, self.prefixed, self._write = cluster, prefixed, write or _to_stderr
        self._tails: dict[str, deque[str]] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._ended = threading.Event()

    def follow(self, pods: Iterable[Mapping[str, Any]]) -> None:
        """Start to follow the pods that are new and have begun to write."""
        for pod in pods:
            name = pod["metadata"]["name"]
            if name not in self._threads and has_logs(pod):
                self._tails[name] = deque(maxlen=_TAIL_LINES)
                thread = threading.Thread(target=self._follow, args=(name, node_of(pod)), daemon=True)
                self._threads[name] = thread
                thread.start()

    def tails(self) -> Sequence[Sequence[str]]:
        """The last lines of each pod."""
        return [list(tail) for tail in self._tails.values()]

    def finish(self) -> None:
        """Wait for the last lines to arrive, for some seconds at most."""
        self._ended.set()
        until = time.monotonic() + _END_SECONDS
        for thread in self._threads.values():
            thread.join(max(0.0, until - time.monotonic()))

    def _follow(self, name: str, node: str) -> None:
        path, last = self.cluster.of_namespace("pods", name) + "/log", ""
        while True:
            ended = self._ended.is_set()  # before reading: what is written until then is read once more
            try:
                last = self._read(path, name, node, last, follow=not ended)
            except RefusedError as error:
                if error.status in (401, 403, 404):
                    if error.status != 404:  # removed with its pod
                        self._write(f"{node}: its log cannot be read ({error})\n")
                    return
            if ended:
                return
            self._ended.wait(_PAUSE)

    def _read(self, path: str, name: str, node: str, last: str, follow: bool) -> str:
        """Read on after the line of time `last`; the time of the newest one."""
        query = {"container": CONTAINER, "timestamps": "true"}
        query |= {"follow": "true"} if follow else {}
        query |= {"sinceTime": last[:19] + "Z"} if last else {}  # whole seconds: the rest is passed over below
        response = self.cluster.stream(path, **query)
        try:
            for line in _lines(response):
                stamp, _, text = line.partition(" ")
                if stamp > last:
                    last = stamp
                    self._tails[name].append(text)
                    self._write(f"{node}: {text}\n" if self.prefixed else f"{text}\n")
        finally:
            response.release_conn()
            response.close()
        return last


def _lines(response: Any) -> Iterable[str]:
    """Whole lines; a stream that breaks off ends, and is opened again by the caller."""
    from urllib3.exceptions import HTTPError

    rest = b""
    try:
        for chunk in response.stream(2**16):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from (line.decode(errors="replace") for line in lines)
    except (HTTPError, OSError, ClusterError):
        return
    if rest:
        yield rest.decode(errors="replace")


def _to_stderr(line: str) -> None:
    print(line, end="", file=sys.stderr, flush=True)
