"""The knowledge base of a run that trains the passage encoder: rebuilt in the background, switched at a step's end."""

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import torch
import torch.distributed as dist
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ragtune.errors import RagtuneError, TrainingError
from ragtune.knowledge.manifest import PASSAGES, Manifest
from ragtune.knowledge.passages import Passages
from ragtune.knowledge.pointers import resolve
from ragtune.knowledge.retrieved import Retrieved
from ragtune.models.encoders import Encoder
from ragtune.training.arguments import RagTrainingArguments, RunFiles
from ragtune.training.distributed.fsdp import whole_encoder
from ragtune.training.knowledge import open_knowledge
from ragtune.training.refresh.devices import RefreshDevices, devices_now, idle_gpus, too_slow
from ragtune.training.refresh.spread import spread
from ragtune.training.refresh.trained_base import described, trained_folder
from ragtune.training.refresh.worker import Refresher, Target
from ragtune.training.retrieval.search import Queries, Search
from ragtune.training.telemetry.progress_lines import say

_CHECKPOINT_FILE = "refresh.json"
_START = 0  # the step of the knowledge base that the run was given
_POLL_SECONDS = 0.2
_ATTEMPTS_WHILE_WAITING = 3
_PATIENCE = timedelta(days=30)  # others wait while the first process makes the last knowledge base


class RefreshedKnowledge(TrainerCallback):
    """The knowledge base that a trainer searches, and the callback that keeps it young.

    At the end of a step the first process looks whether a refresh has finished, and whether the next is due, and tells
    the others; all of them switch then or none. The rows of all versions are those of the same passages.

    Attributes:
        step: of the snapshot that made what is searched now; 0 for the knowledge base that the run was given.
        passages: by row.
        refreshes: how many have been switched to, over all resumptions of the run.
        refresh_seconds: that they took together, from snapshot to switch.
        before_switch: called, in every process, before another version is turned to or a snapshot taken: to wait for
            searches and tokenizers in another thread.
    """

    def __init__(
        self,
        files: RunFiles,
        args: RagTrainingArguments,
        encoder: Encoder,
        start: tuple[Path, Manifest],
        work: Path,
    ):
        """Set up; nothing is opened before the first search.

        Args:
            files, args: of the run.
            encoder: the passage encoder, live.
            start: folder and manifest of the version that the run was given; it is only read.
            work: the run's own folder, named after its fingerprint; gets refresh/ with what is built.
        """
        from ragtune.knowledge.feature_repo import milvus_uri_of  # Feast takes seconds to import

        self.files, self.args, self.encoder, self._start = files, args, encoder, start
        start_folder, manifest = start
        passages = start_folder / PASSAGES
        self.passages = Passages.open(passages)
        self.step = _START
        self.refreshes, self.refresh_seconds, self.every = 0, 0.0, args.make_method().refresh_every(args.refresh_every)
        self.before_switch: Callable[[], None] = lambda: None
        own_uri = milvus_uri_of(start_folder)
        name = f"{manifest.name}_{work.name}"
        meanwhile = Target(str(passages.absolute()), name, manifest.index, files.milvus_uri or own_uri)
        # An embedded database that somebody serves takes what is made meanwhile, but who serves it later is not known.
        self._last = meanwhile if own_uri else replace(meanwhile, uri="")
        self._trained_folder = trained_folder(files, start_folder, work.name)
        self.refresher = Refresher(work / "refresh", meanwhile, self._devices, files.trust_remote_code)
        self._last_start = _START
        self._kept: set[int | None] = set()  # what the last checkpoint goes on with
        self._begun: int | None = None  # a refresh that was under way when it was written
        self._obsolete = True  # there may be leftovers
        self._told_slow = False
        self._search: Search | None = None
        self._open = ExitStack()
        alone = args.world_size == 1
        self._group = None if alone else dist.new_group(backend="gloo", timeout=_PATIENCE)

    def search(self, queries: Queries, k: int) -> Retrieved:
        """As `KnowledgeBase.search`."""
        if self._search is None:
            self._switch(self.step)
        assert self._search is not None
        return self._search.search(queries, k)

    def staleness(self, step: int) -> int:
        """Steps between the snapshot that is searched and the live passage encoder."""
        return step - self.step

    def figures(self) -> dict[str, float]:
        """refreshes, and the mean refresh_seconds where there were any."""
        mean = {"refresh_seconds": self.refresh_seconds / self.refreshes} if self.refreshes else {}
        return {"refreshes": self.refreshes, **mean}

    def save(self, checkpoint: Path) -> None:
        """Write the state that a resumed run needs into a checkpoint."""
        state = {
            "step": self.step,
            "in_the_making": self.refresher.step,
            "last_start": self._last_start,
            "refreshes": self.refreshes,
            "refresh_seconds": self.refresh_seconds,
        }
        (checkpoint / _CHECKPOINT_FILE).write_text(json.dumps(state), encoding="utf-8")

    def load(self, checkpoint: Path) -> None:
        """Go on with what a checkpoint remembers; with the start's where that is gone."""
        state = json.loads((checkpoint / _CHECKPOINT_FILE).read_text(encoding="utf-8"))
        self.refreshes, self.refresh_seconds = state["refreshes"], state["refresh_seconds"]
        step = state["step"]
        if step != _START and not self.refresher.base_folder(step).is_dir():
            if self.args.process_index == 0:
                say(f"warning: the knowledge base of step {step} is gone; training goes on with the run's first one")
            step = _START
        self.step, self._begun, self._last_start = step, state["in_the_making"], state["last_start"]
        self._kept = {step, self._begun}
        self._search = None  # opened when training begins, or by the next search

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: Any) -> None:
        """Stop refreshing and let go; after an error without waiting for others, which do not come here."""
        self.refresher.stop()
        self._search = None
        self._open.__exit__(*raised)

    def close(self) -> None:
        """Stop refreshing and let go of the knowledge base; every process must call it."""
        self.__exit__(None, None, None)

    def serve_trained(self) -> dict[str, Any]:
        """Make the knowledge base that fits the passage encoder as it is now, and drop what was made on the way.

        Every process must call it; the first one works, and the others wait. With a knowledge base in its folder
        already it becomes a new version of that.

        Returns:
            For the model's lineage: path, version, content_hash, encoder_fingerprint, rows.
        """
        self.close()
        folder, target = self._trained_folder, self._last
        encoder = whole_encoder(self.encoder, keep=self.args.process_index == 0)
        if encoder is not None:
            from ragtune.knowledge.knowledge_base import ingest_passages

            on_all = spread(encoder, idle_gpus(encoder, self.args.device))
            ingest_passages(target.passages, folder, on_all, uri=target.uri, name=target.name, index=target.index)
            for step in self.refresher.steps():
                self.refresher.drop(step)
        if self._group is not None:
            dist.barrier(group=self._group)
        return described(*resolve(folder))

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open what is searched, and resume the refresh that was under way when the run was killed."""
        if self._search is None:
            self._switch(self.step)
        if args.process_index == 0 and self._begun is not None and not self.refresher.go_on(self._begun):
            self._last_start = self.step
        self._begun = None

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Switch, take a snapshot, and wait while what is searched is too old: in all processes or in none."""
        step, attempts, waits = state.global_step, 0, True
        if args.process_index == 0:
            self._drop_obsolete()
        while waits:
            newest, begins, waits = self._agreed(self._plan(state, attempts) if args.process_index == 0 else None)
            if newest != self.step:
                self.before_switch()
                self._switch(newest)
            if begins:
                attempts += 1
                self._begin(step)
            if waits:
                time.sleep(_POLL_SECONDS)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Let go of what only the checkpoint before this one needed."""
        self._kept = {self.step, self.refresher.step}
        self._obsolete = True

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """No refresh is of use any more."""
        self.refresher.stop()

    def _plan(self, state: TrainerState, attempts: int) -> tuple[int, bool, bool]:
        """The step whose knowledge base is to be searched, whether the next is to be begun, and whether to wait then.

        Args:
            state: at the end of a step.
            attempts: how often one has been begun at this step's end.
        """
        step, limit = state.global_step, self.args.max_staleness if self.every else 0
        newest, idle = self._poll(step), self.refresher.step is None
        if step >= state.max_steps:
            return newest, False, False
        waits = 0 < limit < step - newest
        if waits and idle and attempts == _ATTEMPTS_WHILE_WAITING:
            raise TrainingError(
                f"step {step}: the knowledge base is {step - newest} steps old, which is more than max_staleness="
                f"{limit}, and rebuilding it failed {attempts} times, see above; fix that, or set max_staleness=0"
            )
        self._tell_if_slow(step)
        due = 0 < self.every <= step - self._last_start
        return newest, idle and (due or waits), waits

    def _tell_if_slow(self, step: int) -> None:
        told = too_slow(step, self.refresher.step, self.every, self.refresher.devices)
        if told and not self._told_slow:
            self._told_slow = True
            say(f"warning: {told}")

    def _devices(self) -> RefreshDevices:
        chosen, told = devices_now(self.args.refresh_device, self.encoder, self.args.device)
        say(told)
        return chosen

    def _agreed(self, plan: tuple[int, bool, bool] | None) -> tuple[int, bool, bool]:
        """The first process's plan, in all of them."""
        if self._group is None:
            assert plan is not None
            return plan
        agreed = torch.tensor(plan or (0, False, False), dtype=torch.int64)
        dist.broadcast(agreed, src=0, group=self._group)
        newest, begins, waits = agreed.tolist()
        return newest, bool(begins), bool(waits)

    def _begin(self, step: int) -> None:
        self._last_start = step
        self.before_switch()
        encoder = whole_encoder(self.encoder, keep=self.args.process_index == 0)
        if encoder is None:
            return
        try:
            self.refresher.start(step, encoder)
        except RagtuneError as error:
            say(f"warning: step {step}: the knowledge base cannot be rebuilt now: {error}")

    def _poll(self, step: int) -> int:
        done = self.refresher.finished()
        if done is None:
            return self.step
        self.refreshes += 1
        self.refresh_seconds += done.seconds
        say(
            f"refresh: from step {step} on the knowledge base of step {done.step} is searched, made in "
            f"{done.seconds:.1f} s"
        )
        return done.step

    def _switch(self, step: int) -> None:
        """Open the knowledge base of a snapshot, and only then let go of the one before; every process must call it."""
        folder, manifest = self._start
        if step != _START:
            first = manifest
            folder, manifest = resolve(self.refresher.base_folder(step))
            if manifest.content_hash != first.content_hash:
                raise TrainingError(f"{folder}: holds other passages than the run began with; start the run again")
        if self.args.retrieval == "ray":
            self._open.close()  # a cluster may have no room for more actors
        with ExitStack() as opening:
            knowledge = opening.enter_context(open_knowledge(folder, manifest, self.files, self.args))
            opened = opening.pop_all()
        self._open.close()
        self._open, self._search, self.step = opened, knowledge.search, step
        self._obsolete = True

    def _drop_obsolete(self) -> None:
        """Remove what neither is searched nor stands in a checkpoint nor is being made.

        Called before this step's switch: by now all processes have made the last one.
        """
        if self._obsolete:
            needed = {self.step, self.refresher.step} | self._kept
            for step in set(self.refresher.steps()) - needed:
                self.refresher.drop(step)
            self._obsolete = False
