"""RagTrainer: transformers' Seq2SeqTrainer around one batched search a step."""

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter
from transformers import PreTrainedTokenizerBase, PrinterCallback, Seq2SeqTrainer, TrainerState
from transformers.integrations import TensorBoardCallback
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import EvalLoopOutput, rotate_checkpoints

from ragtune.errors import TrainingError
from ragtune.knowledge.retrieved import Retrieved
from ragtune.models.generation import generate_answers, generate_closed_book
from ragtune.models.inputs import PromptBuilder
from ragtune.models.rag import RagModel
from ragtune.training import checkpoints
from ragtune.training.arguments import RagTrainingArguments
from ragtune.training.batches import EpochLoader, QuestionCollator, StepBatches
from ragtune.training.monitor import Clock, Window
from ragtune.training.progress_lines import ProgressLines, say
from ragtune.training.retrieval import Queries, Search, search_at_once
from ragtune.training.trained import TrainedParts, freeze, parameter_groups
from ragtune.training.validation import Score, chosen_questions, first_hit, recall_cutoffs

Batch = dict[str, Any]


class RagTrainer(Seq2SeqTrainer):
    """Trains question encoder and generator through the passages that the live question encoder retrieves.

    Once a step the questions of all its accumulated batches are encoded without gradient and searched for at once; the
    forward pass then scores the retrieved passages again, with gradient, against their stored vectors. The loss is the
    mean over the step's questions, however they are spread over accumulated batches and processes.

    Without a `search` it trains the closed-book baseline: the generator alone, from the bare question.
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
        prompts: PromptBuilder,
        train_dataset: Any,
        eval_dataset: Any = None,
        *,
        search: Search | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
    ):
        """Set up; the model's parts are trained in place.

        Args:
            model: its generator, and with a `search` its question encoder, are trained.
            args: the parameters.
            prompts: builds the generator's inputs, and holds the passages.
            train_dataset: tokenised pairs.
            eval_dataset: tokenised pairs; needed unless `eval_strategy` is "no".
            search: answers with the best passages; None for closed-book.
            processing_class: the generator's tokenizer; the model's own where it is not given.

        Raises:
            TrainingError: the disk cannot hold the checkpoints, or nothing is left to train.
        """
        self.rag = model
        self.prompts = prompts
        self.knowledge = search
        self.window = Window()
        self.clock = Clock()
        parts = TrainedParts(model, closed_book=search is None)
        freeze(parts, args)
        super().__init__(
            model=parts,
            args=args,
            data_collator=QuestionCollator(model.question_encoder.tokenizer.pad_token_id or 0),
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class or model.generator_tokenizer,
        )
        self.remove_callback(PrinterCallback)
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, TensorBoardCallback):
                callback.logging_dir = args.tensorboard_folder or str(self._folder / "tensorboard")
        self.add_callback(ProgressLines())
        checkpoints.check_space(parts, self._folder, args.save_total_limit or 2)

    @property
    def _folder(self) -> Path:
        return Path(self.args.output_dir or ".")

    def fit(self) -> None:
        """Train from the last whole checkpoint in `output_dir`, or from the start, and take the best step's weights."""
        resumable = checkpoints.last_checkpoint(self._folder) if self.args.should_save else None
        checkpoint = broadcast_object_list([resumable])[0]
        self.window = Window()
        if checkpoint is None:
            self.train()
            return
        state = TrainerState.load_from_json(str(checkpoint / checkpoints.STATE))
        if state.global_step < state.max_steps:
            say(f"training: going on from step {state.global_step}")
            self.args.eval_on_start = False  # it is in the log that is gone on with
            self._continue_tensorboard(state.global_step)
            self.train(resume_from_checkpoint=str(checkpoint))
        else:
            self._load_from_checkpoint(str(checkpoint))
            self.state = state
            if self.args.load_best_model_at_end and state.best_global_step:
                best = checkpoints.checkpoint_folder(self._folder, state.best_global_step)
                checkpoints.load_weights(self.model, best)

    def _continue_tensorboard(self, step: int) -> None:
        """Let TensorBoard forget what the killed run logged after its last checkpoint."""
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, TensorBoardCallback) and self.is_world_process_zero():
                callback.tb_writer = SummaryWriter(self.args.tensorboard_folder, purge_step=step + 1)

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
        batches = list(islice(epoch_iterator, num_batches))
        found = self._retrieve(batches, self.args.n_docs)
        return [self._model_inputs(batch, part) for batch, part in zip(batches, found, strict=True)], None

    def _retrieve(self, batches: Sequence[Batch], k: int) -> list[Retrieved | None]:
        if self.knowledge is None:
            self.window.questions += sum(len(batch["question"]) for batch in batches)
            return [None] * len(batches)
        start = time.perf_counter()
        found = search_at_once(self.knowledge, [self._queries(batch) for batch in batches], k)
        self.window.search_seconds += time.perf_counter() - start
        for batch, part in zip(batches, found, strict=True):
            self.window.add_retrieved(part.rows, batch["gold_ids"], self.prompts.passages)
        return list(found)

    def _queries(self, batch: Batch) -> Queries:
        encoder = self.rag.question_encoder
        was_training = encoder.training
        encoder.eval()
        with torch.no_grad(), self.accelerator.autocast():
            ids, mask = (batch[name].to(self.args.device) for name in ("question_input_ids", "question_attention_mask"))
            queries = encoder(ids, mask).float().cpu().numpy()
        encoder.train(was_training)
        return queries

    def _model_inputs(self, batch: Batch, found: Retrieved | None) -> dict[str, Tensor]:
        if found is None:
            contexts = self.prompts.build_closed_book(batch["question"])
            inputs = {"labels": batch["labels"]}
        else:
            contexts = self.prompts.build(batch["question"], found.rows)
            inputs = {name: batch[name] for name in ("question_input_ids", "question_attention_mask", "labels")}
            inputs |= {"doc_embeddings": torch.from_numpy(found.embeddings), "doc_mask": torch.from_numpy(found.mask)}
        return inputs | {f"context_{name}": value for name, value in contexts.items()}

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
        if self.knowledge is not None:
            self.window.add_entropy(output.doc_log_probs)
        return (output.loss, output) if return_outputs else output.loss

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
            n_docs = self.args.n_docs if self.knowledge is not None else 0
            figures, warnings = self.window.close(self.clock, n_docs, len(self.prompts.passages))
            self.window = Window()
            logs.update(figures)
            if self.is_world_process_zero():
                for warning in warnings:
                    say(f"warning: step {self.state.global_step}: {warning}")
        super().log(logs, start_time)

    # Evaluation

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """EM by generation, loss, and recall of the retrieval, on the validation questions."""
        start = time.perf_counter()
        figures = super().evaluate(*args, **kwargs)
        self.window.paused_seconds += time.perf_counter() - start
        return figures

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
        score = Score()
        self.model.eval()
        # All processes search equally often, those that have run out of questions with none.
        for start in range(0, -(-len(chosen) // args.world_size), args.per_device_eval_batch_size):
            rows = own[start : start + args.per_device_eval_batch_size]
            with torch.no_grad(), self.accelerator.autocast():
                self._score([dataset[row] for row in rows], score)
        figures = score.over_all_processes().figures()
        if not np.isfinite(figures["loss"]):
            raise self._diverged(f"the validation loss is {figures['loss']}")
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in figures.items()}
        return EvalLoopOutput(predictions=np.empty(0), label_ids=None, metrics=metrics, num_samples=len(chosen))

    def _score(self, questions: list[Batch], score: Score) -> None:
        texts = [question["question"] for question in questions]
        references = [question["answers"] for question in questions]
        batch = self.data_collator(questions) if questions else None
        if self.knowledge is None:
            if batch is not None:
                loss = self.model(**self._prepare_inputs(self._model_inputs(batch, None))).loss.item()
                predictions = generate_closed_book(self.rag, texts, num_beams=self.args.eval_num_beams)
                score.add(loss, predictions, references)
            return
        cutoffs = recall_cutoffs(self.args.n_docs, len(self.prompts.passages))
        dimension = self.rag.question_encoder.dimension
        queries = self._queries(batch) if batch is not None else np.empty((0, dimension), np.float32)
        found = self.knowledge.search(queries, max(cutoffs))
        if batch is None:
            return
        passages = [[self.prompts.passages[row] for row in rows[rows >= 0].tolist()] for rows in found.rows]
        score.add_ranks(
            (first_hit(p, q["gold_ids"], q["answers"]) for p, q in zip(passages, questions, strict=True)), cutoffs
        )
        n_docs = self.args.n_docs
        kept = Retrieved(found.rows[:, :n_docs], found.scores[:, :n_docs], found.embeddings[:, :n_docs])
        output = self.model(**self._prepare_inputs(self._model_inputs(batch, kept)))
        predictions = generate_answers(
            self.rag, texts, [p[:n_docs] for p in passages], output.doc_log_probs, num_beams=self.args.eval_num_beams
        )
        score.add(output.loss.item(), predictions, references)

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """The best step has the highest EM, of equal ones the lowest loss; it is always kept as a checkpoint."""
        evaluations = [entry for entry in self.state.log_history if "eval_loss" in entry and entry["step"] > 0]
        best = max(evaluations, key=lambda entry: (self._quality(entry), -entry["step"]))
        if best["step"] != self.state.global_step:
            return False
        self.state.best_metric = best[f"eval_{self.args.metric_for_best_model}"]
        self.state.best_global_step = self.state.global_step
        self.control.should_save = True
        return True

    def _quality(self, figures: dict[str, float]) -> tuple[float, ...]:
        loss = -figures["eval_loss"]
        return (figures["eval_em"], loss) if self.args.metric_for_best_model == "em" else (loss,)

    # Checkpoints

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write under another name and rename in the end: a checkpoint is whole or not there."""
        start = time.perf_counter()
        step = self.state.global_step
        partial = checkpoints.partial_folder(self._folder, step)
        self.store_flos()
        if self.args.should_save:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        self.accelerator.wait_for_everyone()
        with checkpoints.writing(partial):
            if self.args.should_save:
                checkpoints.save_weights(self.model, partial)
            self._save_optimizer_and_scheduler(str(partial))
            self._save_scaler(str(partial))
            self._save_rng_state(str(partial))
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                self._save_state(partial)
                checkpoints.publish(partial, checkpoints.checkpoint_folder(self._folder, step))
                best = self.state.best_model_checkpoint
                rotate_checkpoints(str(self._folder), self.args.save_total_limit, best)
        self.accelerator.wait_for_everyone()
        self.window.paused_seconds += time.perf_counter() - start

    def _save_state(self, folder: Path) -> None:
        if self.state.best_global_step:
            best = checkpoints.checkpoint_folder(self._folder, self.state.best_global_step)
            self.state.best_model_checkpoint = str(best)
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

    def _load_best_model(self) -> None:
        checkpoints.load_weights(self.model, str(self.state.best_model_checkpoint))
