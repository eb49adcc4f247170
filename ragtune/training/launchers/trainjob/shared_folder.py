"""A folder on the workspace's volume for what a step has on its own disk: nodes of a job see the volume alone."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragtune.files import atomic_file, atomic_path
from ragtune.locks import IN_USE, locked
from ragtune.training.checkpointing.fingerprint import pairs_hash

_OUTPUTS = ("output_folder", "closed_book_folder", "tensorboard_folder")
_OF_THE_STEP = {*_OUTPUTS, "dataset_folder", "outcome_file"}  # paths that another try may have elsewhere
_KEY_DIGITS = 8  # a temporary folder's, by which `ragtune gc` knows one that was left behind
_OTHER_HOLDER_SECONDS = 120.0  # a network volume may keep the lock of a pod that died that long


@dataclass(frozen=True)
class SharedFolder:
    """Arguments, questions, outputs and outcome of one job.

    Attributes:
        path: absolute, and the same for every try of the same run: `<work folder>/.trainjob.<key>`.
        key: 8 hex digits, of the arguments and the questions' content.
    """

    path: Path
    key: str
    given: Mapping[str, Any]

    @property
    def arguments_file(self) -> Path:
        """The job's arguments, with paths in this folder."""
        return self.path / "arguments.json"

    def name_on(self, claim: str) -> str:
        """The job's name: that of no run of the same arguments on another volume, whose folder this one cannot see."""
        return f"ragtune-{hashlib.sha256(f'{self.key} {claim}'.encode()).hexdigest()[:_KEY_DIGITS]}"

    def is_filled(self) -> bool:
        """True where an earlier try has put everything there."""
        return self.arguments_file.exists()

    def fill(self) -> None:
        """Copy the questions, and write the arguments last; nothing of an earlier job stays."""
        self.empty()
        with atomic_path(self.path / "pairs") as temporary:
            shutil.copytree(self.given["dataset_folder"], temporary)
        own = {"dataset_folder": "pairs", "outcome_file": "outcome.json"}
        own |= {name: name for name in _OUTPUTS if self.given.get(name)}
        with atomic_file(self.arguments_file) as stream:
            json.dump({**self.given, **{name: str(self.path / place) for name, place in own.items()}}, stream)

    def outcome(self) -> dict[str, Any]:
        """Read what the run has left so far; {} for nothing, or half of it."""
        try:
            return json.loads((self.path / "outcome.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}

    def hand_over(self) -> None:
        """Copy what the job has made to where the step was asked for it, the outcome last."""
        outcome = self.outcome()
        for name in _OUTPUTS:
            source = self.path / name
            if "results" in outcome and source.is_dir():
                with atomic_path(self.given[name]) as temporary:
                    shutil.copytree(source, temporary)
        if outcome:
            with atomic_file(self.given["outcome_file"]) as stream:
                json.dump(outcome, stream)

    def empty(self) -> None:
        """Remove everything but the lock."""
        self.arguments_file.unlink(missing_ok=True)  # first, since it says that the rest is there
        for path in self.path.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != IN_USE:
                path.unlink()


@contextmanager
def shared_folder(arguments_file: Path) -> Iterator[SharedFolder]:
    """Hold the folder of a run, of which the arguments tell; it stays unless it was emptied.

    Raises:
        StorageError: another step holds it, for a run of the same arguments and questions.
    """
    given = json.loads(arguments_file.read_text(encoding="utf-8"))
    inputs = {name: value for name, value in given.items() if name not in _OF_THE_STEP}
    inputs["dataset"] = pairs_hash(Path(given["dataset_folder"]))
    key = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:_KEY_DIGITS]
    path = Path(given["work_folder"]).absolute() / f".trainjob.{key}"
    with locked(path / IN_USE, wait_seconds=_OTHER_HOLDER_SECONDS):
        folder = SharedFolder(path, key, given)
        try:
            yield folder
        finally:
            if not folder.is_filled():
                shutil.rmtree(path, ignore_errors=True)
