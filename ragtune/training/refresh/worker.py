"""`python -m ragtune.training.refresh.worker`: rebuild the knowledge base from snapshots of the passage encoder.

The process runs beside the training that started it, on another device, reads the folders of its jobs from standard
input, a line each, and ends when that does; `Refresher` is the training's hold on it. What it makes are knowledge bases
of their own, so that an embedded Milvus never has two owners, and nobody else's is touched.
"""

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from ragtune.errors import RagtuneError
from ragtune.files import atomic_file, atomic_path
from ragtune.models.encoders import Encoder
from ragtune.training.launchers.base import last_reason
from ragtune.training.refresh.devices import RefreshDevices, environment, give_way, limit_memory
from ragtune.training.refresh.spread import spread
from ragtune.training.telemetry.progress_lines import say

_SECONDS_TO_END = 10.0
_OUT_OF_MEMORY = "OutOfMemoryError"
_SNAPSHOT, _BASE, _JOB, _OUTCOME, _LOG = "passage_encoder", "knowledge_base", "job.json", "outcome.json", "log.txt"


@dataclass(frozen=True)
class Target:
    """The settings of a refreshed knowledge base, all but its vectors.

    Attributes:
        passages: their file.
        name: of the knowledge base in Feast and Milvus; the step of the snapshot is added.
        index: "HNSW" or "FLAT".
        uri: of a Milvus server; "" is embedded.
    """

    passages: str
    name: str
    index: str
    uri: str


@dataclass(frozen=True)
class Refreshed:
    """A finished refresh.

    Attributes:
        step: of the snapshot.
        seconds: from the snapshot (or from a resumption of the run) until the knowledge base was known to be there.
    """

    step: int
    seconds: float


class Refresher:
    """The process that makes knowledge bases, one at a time, each in a folder named after its snapshot's step.

    It is started with the first one, and again after it was killed.

    Attributes:
        step: of the snapshot that is being worked on; None where there is none.
        process: as it is now, or None.
        devices: where passages are embedded; None before the first refresh.
    """

    def __init__(
        self, folder: Path, target: Target, choose: Callable[[], RefreshDevices], trust_remote_code: bool = False
    ):
        """Set up; nothing is started.

        Args:
            folder: gets step_<n>/ with snapshot and knowledge base, and log.txt with what the process says.
            target: what to make.
            choose: gives the devices, asked once, at the first refresh: by then the memory of training is known.
            trust_remote_code: the encoder needs Python code that came with it.
        """
        self.folder = folder
        self.target = target
        self.choose = choose
        self.devices: RefreshDevices | None = None
        self.trust_remote_code = trust_remote_code
        self.step: int | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self._started = 0.0

    def base_folder(self, step: int) -> Path:
        """The folder of a snapshot's knowledge base, there or to come."""
        return self.folder / f"step_{step}" / _BASE

    def steps(self) -> list[int]:
        """Of all snapshots that are on disk, whatever has become of them."""
        return [int(path.name.removeprefix("step_")) for path in self.folder.glob("step_*")]

    def start(self, step: int, encoder: Encoder) -> None:
        """Write a snapshot of the encoder, whole or not at all, and have a knowledge base made of it.

        Raises:
            StorageError: the disk is full or may not be written.
        """
        folder = self.folder / f"step_{step}"
        (folder / _OUTCOME).unlink(missing_ok=True)
        with atomic_path(folder / _SNAPSHOT) as temporary:
            encoder.save_pretrained(temporary)
        self.go_on(step)

    def go_on(self, step: int) -> bool:
        """Have a knowledge base made, or finished, of a snapshot that is on disk; False where there is none."""
        folder = self.folder / f"step_{step}"
        if not (folder / _SNAPSHOT).is_dir():
            return False
        self.devices = self.devices or self.choose()
        job = asdict(self.target) | {
            "name": f"{self.target.name}_{step}",
            "devices": self.devices.names,
            "memory_limit": self.devices.limit,
            "trust_remote_code": self.trust_remote_code,
        }
        with atomic_file(folder / _JOB) as stream:
            json.dump(job, stream, indent=1)
        self.step, self._started = step, time.monotonic()
        if (folder / _OUTCOME).exists():
            return True
        try:
            self._send(folder)
        except BrokenPipeError:  # it was killed while it had nothing to do
            self._end()
            self._send(folder)
        return True

    def finished(self) -> Refreshed | None:
        """A knowledge base that has become ready since the last call; a failure is reported once."""
        if self.step is None:
            return None
        step, status = self.step, self.process.poll() if self.process else None
        outcome = self.folder / f"step_{step}" / _OUTCOME
        if outcome.exists():
            failure = json.loads(outcome.read_text(encoding="utf-8"))["error"]
        elif status is not None:
            lines = (self.folder / _LOG).read_text(encoding="utf-8", errors="replace").splitlines()
            failure = f"ended by {signal.Signals(-status).name}" if status < 0 else last_reason(lines)
            self._end()
        else:
            return None
        self.step = None
        if not failure:
            return Refreshed(step, time.monotonic() - self._started)
        say(f"warning: the refresh of step {step} failed ({failure}); the knowledge base before it stays in use")
        self.drop(step)
        if failure.startswith(_OUT_OF_MEMORY) and self.devices is not None and self.devices.limit:
            self._end()
            self.devices = RefreshDevices(("cpu",))
            say("refresh: passages are embedded on cpu from now on; refresh_device names another device")
        return None

    def drop(self, step: int) -> None:
        """Remove what was made of a snapshot; what cannot be removed now is left and said."""
        from ragtune.knowledge.knowledge_base import drop_knowledge_base  # Feast takes seconds to import

        try:
            drop_knowledge_base(self.base_folder(step))
            shutil.rmtree(self.folder / f"step_{step}", ignore_errors=True)
        except RagtuneError as error:
            say(f"warning: the knowledge base of step {step} is no longer needed, but could not be removed: {error}")

    def stop(self) -> None:
        """End the process; what it was building can be resumed."""
        self._end()
        self.step = None

    def _send(self, folder: Path) -> None:
        if self.process is None:
            assert self.devices is not None
            with open(self.folder / _LOG, "ab") as log:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "ragtune.training.refresh.worker"],
                    env=environment(self.devices),
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            if self.devices.on_cpu:
                give_way(self.process.pid)
        assert self.process.stdin is not None
        self.process.stdin.write(f"{folder.absolute()}\n".encode())
        self.process.stdin.flush()

    def _end(self) -> None:
        process, self.process = self.process, None
        if process is None or process.stdin is None:
            return
        process.terminate()
        try:
            process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with contextlib.suppress(BrokenPipeError):  # of what could not be written
            process.stdin.close()


def main() -> None:
    """Do one job after the other until standard input ends; what it holds by then is given up."""
    jobs: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(jobs,), daemon=True).start()
    while True:
        folder = Path(jobs.get())
        try:
            refresh(folder)
            outcome = {"error": ""}
        except RagtuneError as error:
            outcome = {"error": " ".join(str(error).split())}
        except Exception as error:
            traceback.print_exc()
            outcome = {"error": f"{type(error).__name__}: {error}"}
        with atomic_file(folder / _OUTCOME) as stream:
            json.dump(outcome, stream)


def _read(jobs: "queue.SimpleQueue[str]") -> None:
    for line in sys.stdin:
        jobs.put(line.rstrip("\n"))
    os.kill(os.getpid(), signal.SIGTERM)


def refresh(folder: Path) -> None:
    """Embed all passages with a snapshot, in evaluation mode, and write, index and verify the knowledge base.

    Args:
        folder: with the snapshot and the job; gets the knowledge base.

    Raises:
        ModelError, KnowledgeBaseError, StorageError: what stopped it.
    """
    from ragtune.knowledge.knowledge_base import ingest_passages  # Feast takes seconds to import

    job = json.loads((folder / _JOB).read_text(encoding="utf-8"))
    encoder = Encoder.from_pretrained(folder / _SNAPSHOT, "passage", trust_remote_code=job["trust_remote_code"])
    devices = RefreshDevices(tuple(job["devices"]), job["memory_limit"])
    limit_memory(devices)
    on_all = spread(encoder, devices.names)
    # The base keeps the vectors by row; by content nobody asks for them again, as the next snapshot has others.
    with tempfile.TemporaryDirectory(prefix=".vectors.", dir=folder) as by_content:
        options = {"uri": job["uri"], "name": job["name"], "index": job["index"]}
        ingest_passages(job["passages"], folder / _BASE, on_all, embedding_cache=by_content, **options)


if __name__ == "__main__":
    main()
