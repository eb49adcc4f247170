"""`python -m ragtune.training.refresh JOB.json`: make a knowledge base anew from a snapshot of the passage encoder.

It runs beside the training that started it, on another device, and `Refresher` is the training's hold on it. What it
makes is a knowledge base of its own, so that an embedded Milvus never has two owners, and nobody else's is touched.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ragtune.errors import RagtuneError
from ragtune.files import atomic_path
from ragtune.models.encoders import Encoder
from ragtune.training.launch import end_with_starter, last_reason
from ragtune.training.progress_lines import say

_NICENESS = 10
_CPU_SHARE = 4  # of which the refresher takes one part
_SECONDS_TO_END = 10.0
_OF_TORCHRUN = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
_SNAPSHOT, _BASE, _JOB, _LOG = "passage_encoder", "knowledge_base", "job.json", "log.txt"


@dataclass(frozen=True)
class Target:
    """What a refreshed knowledge base is like besides its vectors.

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
        seconds: from the snapshot until the knowledge base was known to be there.
    """

    step: int
    seconds: float


class Refresher:
    """At most one process that makes a knowledge base, each in a folder of its own named after the snapshot's step."""

    def __init__(self, folder: Path, target: Target, device: str, trust_remote_code: bool = False):
        """Set up; nothing is started.

        Args:
            folder: gets step_<n>/ with snapshot, knowledge base and log.
            target: what to make.
            device: where passages are embedded.
            trust_remote_code: the encoder needs Python code that came with it.
        """
        self.folder = folder
        self.target = target
        self.device = device
        self.trust_remote_code = trust_remote_code
        self.step: int | None = None  # of the snapshot that is being worked on
        self.process: subprocess.Popen[bytes] | None = None
        self._started = 0.0

    def base_folder(self, step: int) -> Path:
        """Where the knowledge base of a snapshot is, or will be."""
        return self.folder / f"step_{step}" / _BASE

    def steps(self) -> list[int]:
        """Of all snapshots that are on disk, whatever has become of them."""
        return [int(path.name.removeprefix("step_")) for path in self.folder.glob("step_*")]

    def start(self, step: int, encoder: Encoder) -> None:
        """Write a snapshot of the encoder, whole or not at all, and begin to make a knowledge base of it.

        Raises:
            StorageError: the disk is full or may not be written.
        """
        folder = self.folder / f"step_{step}"
        self._started = time.monotonic()
        with atomic_path(folder / _SNAPSHOT) as temporary:
            encoder.save_pretrained(temporary)
        job = asdict(self.target) | {
            "name": f"{self.target.name}_{step}",
            "encoder": str(folder / _SNAPSHOT),
            "folder": str(folder / _BASE),
            "device": self.device,
            "trust_remote_code": self.trust_remote_code,
        }
        (folder / _JOB).write_text(json.dumps(job, indent=1), encoding="utf-8")
        with open(folder / _LOG, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ragtune.training.refresh", str(folder / _JOB)],
                env=_environment(self.device),
                stdin=subprocess.PIPE,  # ends when this process does: see `end_with_starter`
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.step = step

    def finished(self) -> Refreshed | None:
        """A knowledge base that has become ready since the last call; why it did not is said once."""
        if self.process is None or self.process.poll() is None:
            return None
        step, status = self.step, self.process.returncode
        self._forget()
        assert step is not None
        if status == 0:
            return Refreshed(step, time.monotonic() - self._started)
        lines = (self.folder / f"step_{step}" / _LOG).read_text(encoding="utf-8", errors="replace").splitlines()
        how = f"was ended by signal {-status}" if status < 0 else f"failed: {last_reason(lines)}"
        say(f"warning: the refresh of step {step} {how}; training goes on with the knowledge base that it has")
        self.drop(step)
        return None

    def drop(self, step: int) -> None:
        """Remove what was made of a snapshot; what cannot be removed now is left and said."""
        from ragtune.knowledge.knowledge_base import drop_knowledge_base  # Feast takes seconds to import

        try:
            drop_knowledge_base(self.base_folder(step))
            shutil.rmtree(self.folder / f"step_{step}", ignore_errors=True)
        except RagtuneError as error:
            say(f"warning: the knowledge base of step {step} is not needed any more but stays: {error}")

    def stop(self) -> None:
        """End the process, if there is one, and remove what it has made so far."""
        if self.process is None or self.step is None:
            return
        self.process.terminate()
        try:
            self.process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        step = self.step
        self._forget()
        self.drop(step)

    def _forget(self) -> None:
        if self.process and self.process.stdin:
            self.process.stdin.close()
        self.process = self.step = None


def refresh_device(wanted: str, training_processes: int) -> str:
    """Where to embed passages: as wanted, else the last GPU that does not train, else the CPU.

    Args:
        wanted: such as "cuda:1"; "" to choose.
        training_processes: on this machine, which take the first GPUs.
    """
    count = torch.cuda.device_count()
    return wanted or (f"cuda:{count - 1}" if count > training_processes else "cpu")


def _environment(device: str) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if name not in _OF_TORCHRUN}
    if device == "cpu":
        own["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // _CPU_SHARE))
    return own | {"PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false"}


def main(arguments: Sequence[str]) -> int:
    """Do a job; 0 if the knowledge base is whole and verified, 1 after an error, which is told in one line."""
    (path,) = arguments
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    threading.Thread(target=end_with_starter, daemon=True).start()
    if job["device"] == "cpu":
        os.nice(_NICENESS)
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    try:
        refresh(job)
    except RagtuneError as error:
        print(f"{type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        return 1
    return 0


def refresh(job: dict[str, Any]) -> None:
    """Embed all passages with a snapshot, and write, index and verify the knowledge base.

    Raises:
        ModelError, KnowledgeBaseError, StorageError: what stopped it.
    """
    from ragtune.knowledge.knowledge_base import ingest_passages

    encoder = Encoder.from_pretrained(job["encoder"], "passage", trust_remote_code=job["trust_remote_code"])
    encoder.to(job["device"])
    ingest_passages(job["passages"], job["folder"], encoder, uri=job["uri"], name=job["name"], index=job["index"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
