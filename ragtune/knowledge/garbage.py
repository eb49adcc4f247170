"""Listing and removal of all in a workspace that nothing refers to any more: `ragtune gc`."""

import contextlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ragtune.errors import KnowledgeBaseError, RagtuneError, StorageError
from ragtune.knowledge import ledger
from ragtune.knowledge.ingestion import only_one, remove_version
from ragtune.knowledge.knowledge_base import drop_knowledge_base
from ragtune.knowledge.leases import live_holders
from ragtune.knowledge.manifest import (
    EMBEDDED_DATABASE,
    MANIFEST,
    REPAIRING,
    SERVED,
    UNFINISHED,
    read_manifest,
    read_served,
    version_folders,
)
from ragtune.knowledge.milvus import is_open_elsewhere
from ragtune.knowledge.pointers import POINTER, Pointer, leads_to, pointer_from
from ragtune.locks import IN_USE, is_locked, locked

KEEP_DAYS = 30.0
_DAY_SECONDS = 86_400.0  # a temporary folder that is older belongs to no process any more
_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}")  # of `ragtune.files.atomic_path` and `ragtune.training.launch`
_OF_RAY = "ragtune-*"  # of a Ray of our own, in the system's folder for temporary files
_OF_ONE_RUN = re.compile(r".+-[0-9a-f]{16}")  # a knowledge base that a training made for its own passage encoder
_EARLIER_LAYOUT = ("feature_store.yaml", "features.py", "registry.db", EMBEDDED_DATABASE, MANIFEST)
_MODEL = "ragtune.json"


@dataclass(frozen=True)
class Garbage:
    """Something that nothing refers to.

    Attributes:
        kind: such as "version".
        place: its path, or a collection and its server.
        why: it is not needed.
        bytes: on disk; 0 for a collection.
        remove: removes it, or says in a KnowledgeBaseError why it cannot be.
    """

    kind: str
    place: str
    why: str
    bytes: int
    remove: Callable[[], None] = field(repr=False)


@dataclass
class Found:
    """The finds in a workspace.

    Attributes:
        garbage: what nothing refers to.
        kept: folders of versions, and what refers to each.
        warnings: what could not be looked into.
    """

    garbage: list[Garbage] = field(default_factory=list)
    kept: dict[Path, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def add(self, kind: str, path: Path, why: str, remove: Callable[[Path], None] | None = None) -> None:
        """One more folder or file, removed as such unless `remove` knows better."""
        self.garbage.append(Garbage(kind, str(path), why, _bytes_of(path), partial(remove or _delete, path)))


@dataclass(frozen=True)
class Search:
    """A search for garbage.

    Attributes:
        workspace: the pipeline's.
        keep: further folders whose pointers and models count.
        keep_days: for so long a lease counts whose holder cannot be seen from here, and what was begun can be resumed.
        token: for Milvus servers; "" takes the environment variable RAGTUNE_MILVUS_TOKEN.
    """

    workspace: Path
    keep: Sequence[Path] = ()
    keep_days: float = KEEP_DAYS
    token: str = ""

    def run(self) -> Found:
        """List what nothing refers to; nothing is changed.

        A version is referred to if it is served, if a pointer or model in the workspace or in `keep` leads to it, or if
        somebody holds a lease on it (`ragtune.knowledge.leases`), such as a registered model.

        Raises:
            StorageError: there is no such workspace.
        """
        if not self.workspace.is_dir():
            raise StorageError(f"{self.workspace}: no such folder; name the workspace of the runs")
        found = Found()
        named = list(_pointers([self.workspace, *self.keep]))
        for root in sorted(path for path in self.workspace.glob("knowledge_bases/*") if path.is_dir()):
            try:
                with only_one(root):
                    self._look_into(root, named, found)
            except RagtuneError as error:
                found.warnings.append(str(error))
        training = self.workspace / "training"
        for folder in sorted(path for path in training.glob("[!.]*") if path.is_dir()):
            if self._is_old(folder) and not is_locked(_lock_of(folder)):
                found.add("work folder", folder, "its training was not resumed", self._drop_work_folder)
        for folder in _temporary_folders(self.workspace):
            found.add("temporary folder", folder, "its process is gone", _drop_temporary_folder)
        return found

    def _look_into(self, root: Path, named: Sequence[tuple[Path, Pointer]], found: Found) -> None:
        encoders: set[str] = set()
        served = read_served(root)
        for version in version_folders(root):
            state = _state(version)
            if holders := self._own_reasons(version) or _holders(version, named, self._seconds):
                found.kept[version] = holders[0] + (f" and {len(holders) - 1} more" if holders[1:] else "")
                encoders |= _encoders(version)
            else:
                why = "nothing refers to it" if state else "written by an earlier ragtune, or empty"
                found.add("version", version, why, self._remove_version)
        for folder in root.glob("embeddings/*"):
            if folder.name[:32] not in encoders:
                found.add("embeddings", folder, "no version is of this encoder", _remove_embeddings)
        for name in _EARLIER_LAYOUT:
            if served and (root / name).exists():
                found.add("earlier layout", root / name, "versions have folders of their own by now")
        orphans, problems = ledger.orphans(root, self.token)
        found.warnings += problems
        for collection in orphans:
            place = f"{collection.name} on {collection.uri}"
            remove = partial(self._drop_collection, root, collection)
            found.garbage.append(Garbage("collection", place, "its version's folder is gone", 0, remove))

    def _own_reasons(self, version: Path) -> list[str]:
        """Why a version is needed, whoever refers to it: it is served, or can be resumed."""
        root = version.parent
        if read_served(root) == version.name and not (_OF_ONE_RUN.fullmatch(root.name) and self._is_old(version)):
            return ["served"]
        if _state(version) in UNFINISHED and not self._is_old(version):
            return ["unfinished, and can be resumed"]
        return []

    def _remove_version(self, version: Path) -> None:
        """Look again, as the list may be old, and make it unfinished before the leases are read.

        Who takes a lease after that is told that it is gone, who has taken one is seen.
        """
        root = version.parent
        with only_one(root):
            if reasons := self._own_reasons(version):
                raise KnowledgeBaseError(f"{version}: is needed again ({reasons[0]}); it stays")
            if whole := (version / MANIFEST).exists():
                (version / MANIFEST).replace(version / REPAIRING)
            if holders := _holders(version, (), self._seconds):
                if whole:
                    (version / REPAIRING).replace(version / MANIFEST)
                raise KnowledgeBaseError(f"{version}: is needed again, by {holders[0]}; it stays")
            if read_served(root) == version.name:
                (root / SERVED).unlink()
            remove_version(version, self.token)

    def _drop_collection(self, root: Path, collection: ledger.Collection) -> None:
        with only_one(root):
            ledger.drop(root, collection, self.token)

    def _drop_work_folder(self, folder: Path) -> None:
        """With the knowledge bases that its refreshes have made, on a server too."""
        with locked(_lock_of(folder)):
            if not self._is_old(folder):
                raise KnowledgeBaseError(f"{folder}: its training was resumed meanwhile; it stays")
            for base in folder.glob("refresh/step_*/knowledge_base"):
                drop_knowledge_base(base, self.token)
            _delete(folder)

    @property
    def _seconds(self) -> float:
        return self.keep_days * _DAY_SECONDS

    def _is_old(self, folder: Path) -> bool:
        return _idle_seconds(folder) > self._seconds


def _state(version: Path) -> str:
    """The note of a version, of how far it is; "" where it has none that is known."""
    return next((name for name in (MANIFEST, *UNFINISHED) if (version / name).exists()), "")


def _holders(version: Path, named: Sequence[tuple[Path, Pointer]], keep_seconds: float) -> list[str]:
    holders = [str(place) for place, said in named if leads_to(said, version)]
    if is_open_elsewhere(version / EMBEDDED_DATABASE):
        holders.append("a process that has it open")
    return list(dict.fromkeys([*live_holders(version, keep_seconds), *holders]))


def _pointers(folders: Sequence[Path]) -> Iterator[tuple[Path, Pointer]]:
    """All pointers below some folders: those of artifacts, and those in the lineage of models."""
    for folder in folders:
        for place, _, names in os.walk(folder):
            for path in [Path(place) / name for name in names if name in (POINTER, _MODEL)]:
                with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                    told = json.loads(path.read_text(encoding="utf-8"))
                    yield path, pointer_from(told if path.name == POINTER else told["lineage"]["knowledge_base"])


def _temporary_folders(workspace: Path) -> Iterator[Path]:
    own = os.geteuid()
    candidates = [
        Path(place) / name for place, names, _ in os.walk(workspace) for name in names if _TEMPORARY.fullmatch(name)
    ]
    for path in [*candidates, *Path(tempfile.gettempdir()).glob(_OF_RAY)]:
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_uid == own and _is_abandoned(path):
                yield path


def _is_abandoned(folder: Path) -> bool:
    return _idle_seconds(folder) > _DAY_SECONDS and not is_locked(folder / IN_USE)


def _drop_temporary_folder(folder: Path) -> None:
    if not _is_abandoned(folder):
        raise KnowledgeBaseError(f"{folder}: is in use; it stays")
    _delete(folder)


def _lock_of(work_folder: Path) -> Path:
    """The lock that a training holds, as `ragtune.training.run` has it."""
    return work_folder.with_name(f".{work_folder.name}.lock")


def _remove_embeddings(folder: Path) -> None:
    root = folder.parent.parent
    with only_one(root):
        if any(folder.name[:32] in _encoders(version) for version in version_folders(root)):
            raise KnowledgeBaseError(f"{folder}: is needed again, by a version; it stays")
        _delete(folder)


def _encoders(version: Path) -> set[str]:
    """Beginnings of the names of the folders of embeddings that a version was or will be made of."""
    manifests = [read_manifest(version / name) for name in (MANIFEST, *UNFINISHED)]
    return {manifest.encoder_fingerprint[:32] for manifest in manifests if manifest}


def _delete(path: Path) -> None:
    try:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    except OSError as error:
        raise KnowledgeBaseError(f"{path}: cannot be removed ({error.strerror})") from error


def _idle_seconds(folder: Path) -> float:
    """Since anything in it was changed last."""
    newest = max(path.lstat().st_mtime for path in [folder, *folder.rglob("*")])
    return time.time() - newest


def _bytes_of(path: Path) -> int:
    return sum(file.lstat().st_size for file in [path, *path.rglob("*")] if not file.is_dir())
