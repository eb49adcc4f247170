"""A Trainer that survives being killed: whole checkpoints, the best step kept, clock and log continued."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.tensorboard import SummaryWriter
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerState,
)
from transformers.integrations import TensorBoardCallback
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME
from transformers.trainer_callback import ExportableState

from ragtune.errors import TrainingError
from ragtune.training.arguments import RagTrainingArguments
from ragtune.training.checkpointing import checkpoints
from ragtune.training.checkpointing.cadence import Cadence
from ragtune.training.checkpointing.stopping import AnyProcess, Terminated, Termination, stopped_early
from ragtune.training.distributed.fsdp import full_optimizer_state, full_state, load_full_optimizer_state
from ragtune.training.distributed.memory import check_memory
from ragtune.training.telemetry.monitor import Clock
from ragtune.training.telemetry.progress_lines import ProgressLines, say


class ResumableTrainer(Trainer):
    """Writes a checkpoint under another name and renames it last, so that a killed run never resumes from half of one.

    The weights of the best step are kept apart from checkpoints, in `best-<step>`, written when an evaluation finds it,
    that of step 0 included. So checkpoints, which are three times as large, have a cadence of their own, and there is
    always a best step to take in the end, whatever step a killed run resumes from.

    Attributes:
        clock: the run's totals, over all its resumptions.
    """

    args: RagTrainingArguments
    model: nn.Module
    optimizer: Any  # there is one when a checkpoint is written or read
    lr_scheduler: Any

    def __init__(self, *positional: Any, **options: Any):
        """As Trainer.

        Raises:
            TrainingError: the disk cannot hold the checkpoints, or the memory what is trained.
        """
        super().__init__(*positional, **options)
        self.clock = Clock()
        self._check_memory()
        self.folder = Path(self.args.output_dir or ".")
        if self.args.should_save:
            checkpoints.check_space(self.model, self.folder, self.args.save_total_limit or 2)
        for callback in self._tensorboard():
            callback.logging_dir = self.args.tensorboard_folder or str(self.folder / "tensorboard")
        self.remove_callback(PrinterCallback)
        self.add_callback(ProgressLines())
        any_process = AnyProcess(several=self.args.world_size > 1)
        self.termination, self.cadence = Termination(any_process), Cadence(any_process)
        self.add_callback(self.termination)
        self.add_callback(self.cadence)

    def _check_memory(self) -> None:
        args, several = self.args, self.args.world_size > 1
        on_cpu = args.device.type == "cpu"
        sharing = int(os.environ.get("LOCAL_WORLD_SIZE", args.world_size)) if on_cpu else 1
        helps = several and not on_cpu and not args.fully_shard
        hint = ", or spread it over the devices with fully_shard=true" if helps else ""
        check_memory(self.model, args.device, args.world_size if args.fully_shard else 1, sharing, hint)

    def fit(self) -> None:
        """Train from the last whole checkpoint in `output_dir`, or from the start, and take the best step's weights.

        Raises:
            TrainingError: it was stopped before its last step, other than by early stopping.
        """
        resumable = checkpoints.last_checkpoint(self.folder) if self.args.should_save else None
        checkpoint = broadcast_object_list([resumable])[0]
        state = TrainerState.load_from_json(str(checkpoint / checkpoints.STATE)) if checkpoint else TrainerState()
        self._check_best(checkpoint, state)
        if self.args.should_save:
            checkpoints.drop_bests(self.folder, state.best_global_step)
        if checkpoint is None:
            self._train_to_the_end()
        elif not self._is_finished(state):
            if self.is_world_process_zero():
                say(f"training: resuming from step {state.global_step}")
            self.args.eval_on_start = self._lacks_validation(state)  # else it is in the log that is gone on with
            for callback in self._tensorboard():  # shall forget what was logged after the checkpoint
                callback.tb_writer = SummaryWriter(callback.logging_dir, purge_step=state.global_step + 1)
            self._train_to_the_end(resume_from_checkpoint=str(checkpoint))
        else:
            self._load_from_checkpoint(str(checkpoint))
            self.state = state
            if self._lacks_validation(state):
                self.evaluate()
                self._keep_best()
        if self.args.load_best_model_at_end and self.state.best_global_step is not None:
            checkpoints.load_weights(self.model, checkpoints.best_folder(self.folder, self.state.best_global_step))

    def _check_best(self, checkpoint: Path | None, state: TrainerState) -> None:
        """Check, before hours of training, that the best step is there and can be compared with those to come."""
        best, name = state.best_global_step, f"eval_{self.args.metric_for_best_model}"
        if best is None or self.args.eval_strategy == "no":
            return
        if any(entry["step"] == best and name not in entry for entry in state.log_history if "eval_loss" in entry):
            raise TrainingError(
                f"metric_for_best_model={self.args.metric_for_best_model}: the run that is resumed has not measured "
                "it; give that run's own, em or loss"
            )
        if self.args.load_best_model_at_end and not checkpoints.best_folder(self.folder, best).is_dir():
            raise TrainingError(
                f"{checkpoint}: its best step was {best}, whose weights are gone; delete it to resume from the one "
                "before, or from the start"
            )

    def _lacks_validation(self, state: TrainerState) -> bool:
        """Tell whether a checkpoint was written in place of its step's validation: see `evaluate`."""
        exported: Any = state.stateful_callbacks or {}
        control = exported.get("TrainerControl", {}).get("args", {})
        return self.args.eval_strategy != "no" and control.get("should_evaluate", False)

    def _train_to_the_end(self, **options: Any) -> None:
        with self.termination.watched():
            try:
                self.train(**options)
            except Terminated:
                self.callback_handler.on_train_end(self.args, self.state, self.control)
        if self.termination.heard() or not self._is_finished(self.state):
            how = "was ended by SIGTERM" if self.termination.asked else "was stopped"
            last, then = checkpoints.last_step(self.folder), "it wrote no checkpoint, and starts over"
            if last is not None:
                then = f"the checkpoint of step {last} is in {self.folder}; start it again with the same parameters"
                then += ", and it resumes from there"
            done = f"after step {self.state.global_step} of {self.state.max_steps}"
            raise TrainingError(f"the training {how} {done}; {then}")

    def _is_finished(self, state: TrainerState) -> bool:
        *_, max_steps = self.set_initial_training_values(self.args, self.get_train_dataloader())  # it may have grown
        return state.global_step >= max_steps or stopped_early(state, self.args.early_stopping_patience)

    def _tensorboard(self) -> list[TensorBoardCallback]:
        known = [callback for callback in self.callback_handler.callbacks if isinstance(callback, TensorBoardCallback)]
        return known if self.is_world_process_zero() else []

    def add_scalars(self, scalars: Mapping[str, float]) -> None:
        """Write to TensorBoard under these very names, without the train/ and eval/ of Trainer's."""
        for callback in self._tensorboard():
            for name, value in scalars.items() if callback.tb_writer is not None else ():
                callback.tb_writer.add_scalar(name, value, self.state.global_step)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As Trainer's; while training goes on, the weights are kept if none before were better.

        Where SIGTERM ends it, the checkpoint of the step that has just been trained says that it should be validated,
        which a run that resumes it does first.
        """
        try:
            metrics = super().evaluate(*args, **kwargs)
        except Terminated:
            if self.control.should_evaluate and self.args.save_strategy != "no":
                self._save_checkpoint(self.model, None)
            raise
        if self.is_in_train:
            self._keep_best()
        return metrics

    def _keep_best(self) -> None:
        """The best step by `metric_for_best_model`, of equal ones by the loss, then the earliest."""
        step, best = self.state.global_step, self.state.best_global_step
        by_step = {entry["step"]: entry for entry in self.state.log_history if "eval_loss" in entry}
        if best is None or self._quality(by_step[step]) > self._quality(by_step[best]):
            self.state.best_metric = by_step[step][f"eval_{self.args.metric_for_best_model}"]
            self.state.best_global_step = step
            if self.args.load_best_model_at_end:
                self._save_best()
        elif stopped_early(self.state, self.args.early_stopping_patience):
            self.control.should_training_stop = True
            self.control.should_save = self.args.save_strategy != "no"  # a restart must find that it has ended

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """True where the step that was just evaluated is the best one."""
        return self.state.best_global_step == self.state.global_step

    def _init_training_state(self, *args: Any, **kwargs: Any) -> Any:
        started = super()._init_training_state(*args, **kwargs)
        self.state.compute_steps(self.args, self.state.max_steps)  # a checkpoint's, which Trainer takes, may be others
        return started

    def _quality(self, figures: dict[str, float]) -> tuple[float, ...]:
        """Of a step's evaluation, to compare by; equal metrics are decided by the loss."""
        metric, loss = self.args.metric_for_best_model, -figures["eval_loss"]
        return (loss,) if metric == "loss" else (figures[f"eval_{metric}"], loss)

    def _save_best(self) -> None:
        best = checkpoints.best_folder(self.folder, self.state.global_step)
        partial = checkpoints.partial_of(best)
        weights = full_state(self.model, keep=self.args.should_save, frozen=False)
        if self.args.should_save:
            shutil.rmtree(partial, ignore_errors=True)
            with checkpoints.writing(partial):
                partial.mkdir(parents=True)
                checkpoints.save_weights(weights, partial)
                checkpoints.publish(partial, best)
            checkpoints.drop_bests(self.folder, self.state.best_global_step)
        self.accelerator.wait_for_everyone()

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write under another name and rename in the end: a checkpoint is whole or not there."""
        whole = checkpoints.checkpoint_folder(self.folder, self.state.global_step)
        partial = checkpoints.partial_of(whole)
        self.store_flos()
        if self.args.should_save:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        self.accelerator.wait_for_everyone()
        weights = full_state(self.model, keep=self.args.should_save, frozen=False)
        optimizer = full_optimizer_state(self.optimizer, keep=self.args.should_save)
        with checkpoints.writing(partial):
            if self.args.should_save:
                checkpoints.save_weights(weights, partial)
                torch.save(optimizer, partial / OPTIMIZER_NAME)
                torch.save(self.lr_scheduler.state_dict(), partial / SCHEDULER_NAME)
            self._save_scaler(str(partial))
            self._save_rng_state(str(partial))
            self._save_process_state(partial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            with checkpoints.writing(partial):
                self._save_state(partial)
                checkpoints.publish(partial, whole)
            checkpoints.drop_checkpoints(self.folder, self.args.save_total_limit or 2)
            checkpoints.drop_bests(self.folder, self.state.best_global_step)
        self.accelerator.wait_for_everyone()

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            paths = (Path(checkpoint) / name for name in (OPTIMIZER_NAME, SCHEDULER_NAME))
            optimizer, scheduler = (torch.load(path, map_location="cpu", weights_only=True) for path in paths)
            own = [{**group, "params": None} for group in self.optimizer.param_groups]
            base_rates = getattr(self.lr_scheduler, "base_lrs", None)
            if [len(group["params"]) for group in optimizer["param_groups"]] != [
                len(group["params"]) for group in self.optimizer.param_groups
            ]:
                raise TrainingError(
                    f"{checkpoint}: groups the weights by learning rate otherwise; give question_encoder_learning_rate "
                    "and passage_encoder_learning_rate where that run gave them, and the same frozen parts"
                )
            load_full_optimizer_state(self.optimizer, optimizer)
            self.lr_scheduler.load_state_dict(scheduler)
            if isinstance(self.lr_scheduler, LambdaLR) and base_rates is not None:
                self._keep_own_rates(own, base_rates)

    def _keep_own_rates(self, own: list[dict[str, Any]], base_rates: list[float]) -> None:
        """Rates and decay as the parameters say: with `resume_from` the checkpoint's may be others."""
        schedule = self.lr_scheduler
        schedule.base_lrs = base_rates
        rates = [
            rate * factor(schedule.last_epoch) for rate, factor in zip(base_rates, schedule.lr_lambdas, strict=True)
        ]
        schedule._last_lr = rates
        for group, options, rate in zip(self.optimizer.param_groups, own, rates, strict=True):
            group.update({**options, "params": group["params"], "lr": rate})

    def _save_process_state(self, folder: Path) -> None:
        """Save the further state that each process wants to find in a checkpoint."""

    def _save_state(self, folder: Path) -> None:
        exported: dict[str, Any] = {}
        for callback in [*self.callback_handler.callbacks, self.control]:
            if isinstance(callback, ExportableState):
                exported[type(callback).__name__] = callback.state()
        self.state.stateful_callbacks = exported  # type: ignore[assignment]
        (folder / checkpoints.CLOCK).write_text(json.dumps(self.clock.as_dict()), encoding="utf-8")
        self.state.save_to_json(str(folder / checkpoints.STATE))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        folder = Path(resume_from_checkpoint)
        checkpoints.load_weights(self.model, folder)
        self.clock = Clock(**json.loads((folder / checkpoints.CLOCK).read_text(encoding="utf-8")))
