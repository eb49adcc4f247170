"""RagTrainer: transformers' Trainer around one batched search per step, and a method of training."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase, TrainerCallback
from transformers.trainer_utils import EvalLoopOutput, TrainOutput

from ragtune.models.generators.likelihood import known_lengths
from ragtune.models.inputs import PromptBuilder
from ragtune.models.rag import RagModel
from ragtune.training.arguments import RagTrainingArguments
from ragtune.training.batches import EpochLoader, QuestionCollator, StepBatches
from ragtune.training.checkpointing.resumable import ResumableTrainer
from ragtune.training.distributed.fsdp import gathered, shard
from ragtune.training.methods.base import InputTokens, Method
from ragtune.training.methods.live_passages import PassageTokens
from ragtune.training.refresh.knowledge import RefreshedKnowledge
from ragtune.training.retrieval.prefetch import SearchAhead
from ragtune.training.retrieval.search import Queries, Search
from ragtune.training.retrieval.steps import Batch, Inputs, StepInputs
from ragtune.training.scoring import Scorer, check_metric
from ragtune.training.telemetry.divergence import Divergence
from ragtune.training.telemetry.monitor import Window
from ragtune.training.telemetry.progress_lines import say
from ragtune.training.telemetry.throughput import WorkCounter, peak_flops
from ragtune.training.trained import TrainedParts, parameter_groups, trained_parts
from ragtune.training.validation import chosen_questions


class RagTrainer(ResumableTrainer):
    """Trains a model's parts by a method, from the passages that the live question encoder retrieves.

    Once per step the questions of all its accumulated batches are encoded without gradient and searched for at once,
    unless the method needs no search; what the method makes of question and passages is its own. The loss is the mean
    over the step's questions, however they are spread over accumulated batches and processes.

    With `overlap_search` a step's questions are encoded, and searched for in the background, while the step before
    trains: the passages are those that the question encoder of one step ago would have chosen. An epoch's first step
    waits for its search.

    An evaluation answers the questions where the generator is among the method's parts, from the retrieved passages or,
    without a `search`, by heart; with a `search` it counts recall.
    """

    args: RagTrainingArguments
    model: TrainedParts
    train_dataset: Any
    eval_dataset: Any
    loss_is_scaled_for_ga = False  # each batch's loss is its mean, and a step's batches are equally long

    def __init__(
        self,
        model: RagModel,
        args: RagTrainingArguments,
        method: Method,
        prompts: PromptBuilder,
        train_dataset: Any,
        eval_dataset: Any = None,
        *,
        search: Search | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[Optimizer | None, LRScheduler | None] = (None, None),
    ):
        """Set up; the model's parts are trained in place.

        Args:
            model: the method's parts of it are trained.
            args: the parameters.
            method: what is trained and how.
            prompts: builds the generator's inputs, and holds the passages.
            train_dataset: tokenised pairs.
            eval_dataset: tokenised pairs; needed unless `eval_strategy` is "no".
            search: answers with the best passages; None for a method that needs no search, and then no recall is
                known. A `RefreshedKnowledge` is kept young.
            callbacks: as Trainer's, beside the method's own.
            optimizers: an optimizer and a schedule in place of AdamW's and of `lr_scheduler_type`'s.
            processing_class: the generator's tokenizer; the model's own where it is not given.

        Raises:
            TrainingError: the disk cannot hold the checkpoints, nothing is left to train, or the best step cannot be
                chosen by `metric_for_best_model`.
        """
        args.settle(model.config)
        method.adapt(model)
        self.rag, self.method = model, method
        self.prompts = prompts
        self.knowledge = search
        self.window = Window()
        self.refreshed = search if isinstance(search, RefreshedKnowledge) else None
        overlaps = search is not None and method.needs_search and args.overlap_search
        self.ahead: SearchAhead[list[Inputs]] | None = SearchAhead(search) if search is not None and overlaps else None
        if self.refreshed is not None and self.ahead is not None:
            self.refreshed.before_switch = self.ahead.wait
        check_metric(args, method, search, len(prompts.passages))
        if args.ddp_find_unused_parameters is None:
            args.ddp_find_unused_parameters = method.leaves_unused  # which costs a walk through each step's graph
        self.tokens = InputTokens(prompts, PassageTokens(model.passage_encoder, prompts.passages))
        self.steps = StepInputs(method, self.tokens, search, self.ahead, self.encode_questions, args)
        self.divergence = Divergence(args)
        parts = trained_parts(model, method, args)
        self.work = WorkCounter(parts)
        super().__init__(
            model=parts,
            args=args,
            data_collator=QuestionCollator(model.question_encoder.tokenizer.pad_token_id or 0),
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class or model.generator.tokenizer,
            callbacks=callbacks,
            optimizers=optimizers,
        )
        self.train_dataset = method.prepare(self)
        if args.fully_shard and args.world_size > 1:
            shard(parts, args.device.type, args.bf16)
            self.is_distributed_loading_by_transformers = True  # so Trainer calls what is not to be wrapped for DDP
        if self.refreshed is not None:
            self.add_callback(self.refreshed)
        for callback in method.callbacks(self):
            self.add_callback(callback)

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """As Trainer's; the clock starts here."""
        self.window = Window()
        try:
            return super().train(*args, **kwargs)
        finally:
            self.steps.forget()

    # Data and retrieval

    def get_train_dataloader(self) -> DataLoader:
        """This process's share of every step; not sharded again by accelerate."""
        args = self.args
        batches = StepBatches(
            len(self.train_dataset),
            self._train_batch_size,
            processes=args.world_size,
            rank=args.process_index,
            accumulation=args.gradient_accumulation_steps,
            seed=args.seed if args.data_seed is None else args.data_seed,
        )
        workers = args.dataloader_num_workers
        return EpochLoader(self.train_dataset, batches, collate_fn=self.data_collator, num_workers=workers)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """All validation questions; `evaluation_loop` deals them out to the processes itself."""
        return DataLoader(self.eval_dataset if eval_dataset is None else eval_dataset, collate_fn=list)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Tensor]], None]:
        """The inputs of a step's batches, their passages from one search."""
        self.model.step = self.state.global_step
        follows = self.state.global_step + 1 < self.state.max_steps
        inputs = self.steps.take(epoch_iterator, num_batches, follows, self.window)
        for part in inputs:
            self.window.add_work(self.work.count(part))
        return inputs, None

    def encode_questions(self, batches: Sequence[Batch]) -> list[Queries]:
        """Vectors of batches' questions; the device is waited for once."""
        names = ("question_input_ids", "question_attention_mask")
        device = self.args.device
        with self.accelerator.autocast():
            vectors = [
                self.model.encode_questions(*(batch[name].to(device, non_blocking=True) for name in names)).float()
                for batch in batches
            ]
        together = torch.cat(vectors).cpu().numpy()
        return np.split(together, np.cumsum([len(part) for part in vectors])[:-1])

    def _prepare_inputs(self, inputs: dict[str, Tensor]) -> dict[str, Any]:
        """On the device, for which the host does not wait where they lie in pinned memory; lengths stay on the host."""
        moved = {name: value.to(self.args.device, non_blocking=True) for name, value in inputs.items()}
        return moved | known_lengths(inputs)

    # A step

    def create_optimizer(self, model: nn.Module | None = None) -> Optimizer:
        """As Trainer's, with a learning rate of the question encoder's own."""
        if self.optimizer is None:
            decayed = set(self.get_decay_parameter_names(self.model))
            optimizer, options = self.get_optimizer_cls_and_kwargs(self.args)
            self.optimizer = optimizer(parameter_groups(self.model, decayed, self.args), **options)
        return self.optimizer

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The batch's mean loss; nothing here waits for the device."""
        output = model(**inputs)
        self.divergence.add(output.loss)
        if self.knowledge is not None and output.doc_log_probs is not None:
            self.window.add_entropy(output.doc_log_probs)
        self.window.add_metrics(output.metrics or {})
        return (output.loss, output) if return_outputs else output.loss

    @contextmanager
    def _defer_fsdp_gradient_reduction(self) -> Iterator[None]:
        """No deferring: sharded gradients of accumulated batches take less memory, which is what sharding is for."""
        yield

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """As Trainer's; a step whose losses or gradient are no finite numbers ends here, before it changes a weight."""
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        self.divergence.check_step(self.state.global_step + 1, norm if self.accelerator.scaler is None else None)
        return norm

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the retrieval's figures to a training log, and warn of a collapse."""
        if "loss" in logs:
            searched = self.knowledge is not None and self.method.needs_search
            n_docs = self.method.n_retrieved(self.args.n_docs) if searched else 0
            peak = peak_flops(self.args.device)
            figures, warnings = self.window.close(self.clock, n_docs, len(self.prompts.passages), peak)
            self.window = Window()
            logs.update(figures)
            if self.refreshed is not None:
                logs["staleness"] = float(self.refreshed.staleness(self.state.global_step))
            if self.is_world_process_zero():
                for warning in warnings:
                    say(f"warning: step {self.state.global_step}: {warning}")
        super().log(logs, start_time)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        if self.ahead is not None:
            self.ahead.check()
        with self._paused():
            super()._save_checkpoint(model, trial)

    def _save_process_state(self, folder: Path) -> None:
        if self.ahead is not None:
            self.ahead.save(folder, self.args.process_index)

    def _save_state(self, folder: Path) -> None:
        super()._save_state(folder)
        self.method.save(folder)
        if self.refreshed is not None:
            self.refreshed.save(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        checkpoint = Path(resume_from_checkpoint)
        self.method.load(checkpoint)
        if self.ahead is not None:
            sizes = [self._train_batch_size] * self.args.gradient_accumulation_steps
            self.ahead.load(checkpoint, self.args.process_index, self.args.world_size, sizes)
        if self.refreshed is not None:
            self.refreshed.load(checkpoint)

    @contextmanager
    def _paused(self) -> Iterator[None]:
        """Stop the clock."""
        start = time.perf_counter()
        yield
        self.window.paused_seconds += time.perf_counter() - start

    # Evaluation

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """EM by generation, loss, and recall of the retrieval, on the validation questions."""
        with self._paused():
            return super().evaluate(*args, **kwargs)

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Deal the questions out to the processes and add up their scores; the arguments are Trainer's."""
        dataset: Any = dataloader.dataset
        chosen = chosen_questions(len(dataset), self.args.max_eval_questions, self.args.seed)
        if self.ahead is not None:
            self.ahead.wait()
        self.model.eval()
        functions = (self.encode_questions, self._prepare_inputs, self.termination.check)
        scorer = Scorer(self.model, self.args, self.tokens, self.knowledge, *functions)
        with gathered(self.model), torch.no_grad(), self.accelerator.autocast():
            figures = scorer.score(dataset, chosen, self.data_collator).figures()
        self.divergence.check(self.state.global_step + 1, "the validation loss", figures["loss"])
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in figures.items()}
        return EvalLoopOutput(predictions=np.empty(0), label_ids=None, metrics=metrics, num_samples=len(chosen))
