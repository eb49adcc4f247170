"""RagTrainer: transformers' Trainer around one batched search per step, and a method of training."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
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

from ragtune.errors import TrainingError
from ragtune.knowledge.retrieved import Retrieved
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
from ragtune.training.retrieval.search import Queries, Search, search_at_once
from ragtune.training.scoring import Batch, Scorer, check_metric
from ragtune.training.telemetry.monitor import Window
from ragtune.training.telemetry.progress_lines import say
from ragtune.training.telemetry.throughput import WorkCounter, peak_flops
from ragtune.training.trained import TrainedParts, frozen_parts, parameter_groups
from ragtune.training.validation import Score, chosen_questions


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
        self.rag = model
        self.method = method
        self.prompts = prompts
        self.knowledge = search
        self.window = Window()
        self.refreshed = search if isinstance(search, RefreshedKnowledge) else None
        overlaps = search is not None and method.needs_search and args.overlap_search
        self.ahead = SearchAhead(search) if search is not None and overlaps else None
        self._next_batches: list[Batch] = []
        if self.refreshed is not None and self.ahead is not None:
            self.refreshed.before_switch = self.ahead.wait
        check_metric(args, method, search)
        self.tokens = InputTokens(prompts, PassageTokens(model.passage_encoder, prompts.passages))
        parts = TrainedParts(model, method, frozen_parts(args))
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
        if args.fully_shard and args.world_size > 1:
            shard(parts, args.device.type)
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
            self._next_batches = []
            if self.ahead is not None:
                self.ahead.forget()

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
        """The batches of a step with their passages, from one search."""
        self.model.step = self.state.global_step
        batches = self._next_batches or list(islice(epoch_iterator, num_batches))
        self._next_batches = []
        found = self._retrieve(batches, self.method.n_retrieved(self.args.n_docs))
        if self.ahead is not None and self.state.global_step + 1 < self.state.max_steps:
            self._next_batches = list(islice(epoch_iterator, num_batches))
            self._search_ahead(self.ahead)
        pairs = zip(batches, found, strict=True)
        inputs = [self.method.inputs(batch, part, self.tokens) for batch, part in pairs]
        for part in inputs:
            self.window.add_work(self.work.count(part))
        return inputs, None

    def _retrieve(self, batches: Sequence[Batch], k: int) -> list[Retrieved | None]:
        if self.knowledge is None or not self.method.needs_search:
            self.window.questions += sum(len(batch["question"]) for batch in batches)
            return [None] * len(batches)
        start = time.perf_counter()
        found = self.ahead.take() if self.ahead is not None else None
        if found is None:
            found = search_at_once(self.knowledge, [self._queries(batch) for batch in batches], k)
        self.window.search_seconds += time.perf_counter() - start
        for batch, part in zip(batches, found, strict=True):
            self.window.add_retrieved(part.rows, batch["gold_ids"], self.prompts.passages)
        return list(found)

    def _search_ahead(self, ahead: SearchAhead) -> None:
        start = time.perf_counter()
        if self._next_batches:
            queries = [self._queries(batch) for batch in self._next_batches]
            ahead.start(queries, self.method.n_retrieved(self.args.n_docs))
        self.window.search_seconds += time.perf_counter() - start

    def _queries(self, batch: Batch) -> Queries:
        ids, mask = (batch[name].to(self.args.device) for name in ("question_input_ids", "question_attention_mask"))
        with self.accelerator.autocast():
            queries = self.model.encode_questions(ids, mask)
        return queries.float().cpu().numpy()

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
        """The batch's mean loss.

        Raises:
            TrainingError: it is not a finite number.
        """
        output = model(**inputs)
        if not torch.isfinite(output.loss):
            raise self._diverged(f"the loss is {output.loss.item()}")
        if self.knowledge is not None and output.doc_log_probs is not None:
            self.window.add_entropy(output.doc_log_probs)
        self.window.add_metrics(output.metrics or {})
        return (output.loss, output) if return_outputs else output.loss

    @contextmanager
    def _defer_fsdp_gradient_reduction(self) -> Iterator[None]:
        """No deferring: sharded gradients of accumulated batches take less memory, which is what sharding is for."""
        yield

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        norm = super()._clip_grad_norm(model)
        if norm is not None and self.accelerator.scaler is None and not np.isfinite(float(norm)):
            raise self._diverged(f"the gradient's norm is {float(norm)}")
        return norm

    def _diverged(self, what: str) -> TrainingError:
        return TrainingError(
            f"step {self.state.global_step + 1}: {what}; lower learning_rate (now {self.args.learning_rate:g}) or "
            "max_grad_norm, lengthen warmup_steps, or train with precision=fp32"
        )

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
        if self.refreshed is not None:
            self.refreshed.save(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        checkpoint = Path(resume_from_checkpoint)
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
        args = self.args
        chosen = chosen_questions(len(dataset), args.max_eval_questions, args.seed)
        own = chosen[args.process_index :: args.world_size].tolist()
        score, scorer = Score(), self._scorer()
        if self.ahead is not None:
            self.ahead.wait()
        self.model.eval()
        with gathered(self.model), torch.no_grad(), self.accelerator.autocast():
            # All processes search equally often, those that have run out of questions with none.
            for start in range(0, -(-len(chosen) // args.world_size), args.per_device_eval_batch_size):
                questions = [dataset[row] for row in own[start : start + args.per_device_eval_batch_size]]
                scorer.add(questions, self.data_collator(questions) if questions else None, score)
        figures = score.over_all_processes().figures()
        if not np.isfinite(figures["loss"]):
            raise self._diverged(f"the validation loss is {figures['loss']}")
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in figures.items()}
        return EvalLoopOutput(predictions=np.empty(0), label_ids=None, metrics=metrics, num_samples=len(chosen))

    def _scorer(self) -> Scorer:
        return Scorer(self.model, self.args, self.tokens, self.knowledge, self._queries, self._prepare_inputs)
