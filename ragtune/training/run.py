"""A whole run, or one process's part of it: prepare, train the model and the closed-book baseline, publish."""

import copy
import gc
import importlib
import itertools
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch.distributed as dist

from ragtune.files import atomic_path, remove_folder
from ragtune.knowledge.leases import Reading
from ragtune.models.checkpoint import save_model
from ragtune.models.inputs import PromptBuilder
from ragtune.questions.learnt import write_learnt
from ragtune.training.arguments import RagTrainingArguments, RunFiles
from ragtune.training.checkpointing.resumption import begin, only_run
from ragtune.training.distributed.fsdp import make_whole
from ragtune.training.knowledge import Knowledge, open_knowledge
from ragtune.training.methods.closed_book import ClosedBook
from ragtune.training.pairs import judged_in
from ragtune.training.prepare import Prepared, base_model, prepare
from ragtune.training.proximal import Proximal
from ragtune.training.refresh.knowledge import RefreshedKnowledge
from ragtune.training.retrieval.ray_retrieval import ray_connection
from ragtune.training.telemetry.progress_lines import say
from ragtune.training.telemetry.training_log import curve, improved, results
from ragtune.training.trained import frozen_parts
from ragtune.training.trainer import RagTrainer

TRAINING_LOG = "training_log.json"
RESULTS = "training_results.json"
MODEL, _CLOSED_BOOK_MODEL = "model", "closed_book_model"  # in the work folder


def run(
    files: RunFiles, args: RagTrainingArguments, published: Callable[[dict[str, float]], object] | None = None
) -> dict[str, float]:
    """Train, and leave the model in `files.output_folder`; every process of a run calls it.

    A killed run of the same inputs and parameters in `files.work_folder` is resumed, whatever memory and time the two
    may take; what it had finished is not done again. `args.resume_from` resumes another one.

    Args:
        files, args: of the run.
        published: is given the results in the first process, before what a restart would need is dropped.

    Returns:
        What `ragtune.training.telemetry.training_log.results` says, of rag-end2end refreshes and refresh_seconds too,
        and the baseline's with the prefix `closed_book_`.

    Raises:
        TrainingError, ModelError, KnowledgeBaseError, StorageError: with the way out.
    """
    prepared = prepare(files, args)
    first = args.process_index == 0
    with only_run(prepared.work) if first else nullcontext():
        if first:
            begin(prepared.work, prepared.inputs, args)
        _wait()
        train(prepared)
        return publish(prepared, published)


def train(prepared: Prepared) -> None:
    """Train the model, then its closed-book baseline, into the run's work folder; every process calls it.

    A stage whose model stands there is not trained again, one that was killed is resumed.
    """
    if not (prepared.work / MODEL).is_dir():
        own = prepared.args.make_method().trained_by
        train_model = importlib.import_module(own).train_model if own else _train_model
        train_model(prepared)
    del prepared.model
    gc.collect()  # a trainer refers to itself, and would keep weights and moments on the device
    if _trains_closed_book(prepared) and not (prepared.work / _CLOSED_BOOK_MODEL).is_dir():
        _train_closed_book(prepared)


def publish(prepared: Prepared, published: Callable[[dict[str, float]], object] | None = None) -> dict[str, float]:
    """Copy what was trained to where it was asked for, the model last, and drop what a restart would need.

    Every process calls it; arguments and return as of `run`.
    """
    work, files = prepared.work, prepared.files
    figures = _results(work)
    _wait()
    if prepared.args.process_index == 0:
        outputs = [(work / MODEL, files.output_folder)]
        if _trains_closed_book(prepared):
            outputs.insert(0, (work / _CLOSED_BOOK_MODEL, files.closed_book_folder))
        for source, target in outputs:
            with atomic_path(target) as temporary:
                shutil.copytree(source, temporary)
        if published:
            published(figures)
        remove_folder(work)
    return figures


def evaluate_model(files: RunFiles, args: RagTrainingArguments) -> dict[str, float]:
    """A model's metrics on the validation questions, as an evaluation in training has them, in this process alone.

    Returns:
        questions; loss, recall@k, and em where the method has a generator.

    Raises:
        TrainingError, ModelError, KnowledgeBaseError, StorageError: with the way out.
    """
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare(files, args)
        prepared.work = Path(folder)
        with _trainer(prepared) as trainer:
            figures = trainer.evaluate()
            most = args.max_eval_questions or len(trainer.eval_dataset)
            questions = min(most, len(trainer.eval_dataset))
    measured = {name.removeprefix("eval_"): value for name, value in figures.items()}
    names = [name for name in measured if name in ("em", "loss") or name.startswith("recall@")]
    return {"questions": questions, **{name: measured[name] for name in names}}


def _train_model(prepared: Prepared) -> None:
    with _trainer(prepared) as trainer:
        if mu := prepared.args.proximal_mu:
            trainer.add_callback(Proximal(trainer.model, mu))
        _fit(trainer, prepared.work / MODEL, prepared.lineage, prepared.files.model_folder)


@contextmanager
def _trainer(prepared: Prepared) -> Iterator[RagTrainer]:
    args, model, pairs = prepared.args, prepared.model, prepared.pairs
    with _knowledge(prepared) as knowledge:
        prompts = PromptBuilder(model.generator.prompt_tokens, knowledge.passages, model.config)
        judged = (judged_in(split, knowledge.passages) for split in (pairs.train, pairs.validation))
        stage, method = _for_stage(args, prepared.work / "rag"), args.make_method()
        yield RagTrainer(model, stage, method, prompts, *judged, search=knowledge.search)


def _train_closed_book(prepared: Prepared) -> None:
    args, pairs = prepared.args, prepared.pairs
    model = base_model(prepared.files, args, pairs, tells=False)
    prompts = PromptBuilder(model.generator.prompt_tokens, [], model.config)
    stage = _for_stage(args, prepared.work / "closed_book")
    stage.max_steps = args.max_steps if args.closed_book_steps < 0 else args.closed_book_steps
    stage.metric_for_best_model = "loss" if args.metric_for_best_model == "loss" else ClosedBook.best_by
    trainer = RagTrainer(model, stage, ClosedBook(), prompts, pairs.train, pairs.validation)
    lineage = prepared.lineage | {"closed_book": True}
    _fit(trainer, prepared.work / _CLOSED_BOOK_MODEL, lineage, prepared.files.model_folder)


def _fit(trainer: RagTrainer, folder: Path, lineage: dict[str, Any], trained_before: str) -> None:
    """Train, and leave the model in `folder`; `trained_before` is the model folder that it started from, or empty."""
    trainer.fit()
    metric, keeps_best = str(trainer.args.metric_for_best_model), trainer.args.load_best_model_at_end
    figures = results(trainer.state, trainer.clock, metric, keeps_best)
    if trainer.refreshed is not None:
        lineage = lineage | {"knowledge_base": trainer.refreshed.serve_trained()}
        figures |= trainer.refreshed.figures()
    make_whole(trainer.model)
    if trainer.args.lora_merge:
        trainer.rag.generator.merge_adapter()
    if trainer.is_world_process_zero():
        if not improved(trainer.state, metric, keeps_best):
            worse = "no step is better" if keeps_best else "the last step, which is kept, is not better"
            say(f"warning: on the validation questions {worse} than the base model; see the curve")
        with atomic_path(folder) as temporary:
            save_model(trainer.rag, temporary, lineage)
            asked = (split["question"] for split in (trainer.train_dataset, trainer.eval_dataset))
            write_learnt(temporary, itertools.chain.from_iterable(asked), trained_before)
            _write(temporary / TRAINING_LOG, curve(trainer.state.log_history))
            _write(temporary / RESULTS, figures)
    _wait()


@contextmanager
def _knowledge(prepared: Prepared) -> Iterator[Knowledge]:
    """The knowledge base as it was given; where the passage encoder is trained, rebuilt in the background."""
    files, args = prepared.files, prepared.args
    if not args.make_method().refreshes:
        with open_knowledge(*prepared.base, files, args) as knowledge:
            yield knowledge
        return
    with ray_connection(args) if args.retrieval == "ray" else nullcontext():
        refreshed = RefreshedKnowledge(files, args, prepared.model.passage_encoder, prepared.base, prepared.work)
        with refreshed, Reading(prepared.base[0]):  # whose passages are read to the end
            yield Knowledge(refreshed, refreshed.passages)


def _trains_closed_book(prepared: Prepared) -> bool:
    """Tell whether the baseline is asked for, and means something: a generator that is not trained has none."""
    files, args = prepared.files, prepared.args
    learns = "generator" in args.make_method().trains - frozen_parts(args)
    return bool(files.closed_book_folder and args.closed_book_steps and learns)


def _for_stage(args: RagTrainingArguments, folder: Path) -> RagTrainingArguments:
    """A copy with the stage's own folders; the device and the processes stay those that are set up."""
    own = copy.copy(args)
    own.output_dir = str(folder)
    own.run_name = f"{folder.parent.name}-{folder.name}"
    own.tensorboard_folder = str(Path(args.tensorboard_folder or folder.parent / "tensorboard") / folder.name)
    return own


def _results(work: Path) -> dict[str, float]:
    figures: dict[str, float] = {}
    for folder, prefix in ((MODEL, ""), (_CLOSED_BOOK_MODEL, "closed_book_")):
        path = work / folder / RESULTS
        if path.is_file():
            stage = json.loads(path.read_text(encoding="utf-8"))
            figures |= {prefix + name: value for name, value in stage.items()}
    return figures


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _wait() -> None:
    if dist.is_initialized():
        dist.barrier()
