"""A whole run, or one process's part of it: load, check, train, train the baseline, publish."""

import copy
import gc
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch.distributed as dist

from ragtune.errors import TrainingError
from ragtune.files import atomic_path
from ragtune.knowledge.leases import Reading
from ragtune.knowledge.manifest import Manifest
from ragtune.models.checkpoint import load_model, save_model
from ragtune.models.inputs import PromptBuilder
from ragtune.models.rag import RagConfig, RagModel
from ragtune.provenance import running_code
from ragtune.questions.learnt import write_learnt
from ragtune.training.arguments import RagTrainingArguments, RunFiles
from ragtune.training.checkpointing.fingerprint import fingerprint, run_inputs, telling
from ragtune.training.checkpointing.resumption import begin, only_run
from ragtune.training.distributed.fsdp import make_whole
from ragtune.training.knowledge import Knowledge, check_knowledge, open_knowledge
from ragtune.training.methods.base import Method
from ragtune.training.methods.closed_book import ClosedBook
from ragtune.training.pairs import Pairs, judged_in, open_pairs
from ragtune.training.refresh.knowledge import RefreshedKnowledge, described, trained_folder
from ragtune.training.retrieval.ray_retrieval import ray_connection
from ragtune.training.retrieval.search import Search
from ragtune.training.telemetry.progress_lines import say
from ragtune.training.telemetry.training_log import curve, improved, results
from ragtune.training.trained import frozen_parts
from ragtune.training.trainer import RagTrainer

TRAINING_LOG = "training_log.json"
_RESULTS = "training_results.json"
_EXPERIMENT = "ragtune-training"  # in MLflow, unless MLFLOW_EXPERIMENT_NAME says another
_HIGH_TEMPERATURE = 0.3  # for unit vectors


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
    first = args.process_index == 0
    if files.tracking_uri:
        args.report_to = [*args.report_to, "mlflow"]  # type: ignore[assignment]  # a list by now
        os.environ["MLFLOW_TRACKING_URI"] = files.tracking_uri
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_EXPERIMENT_NAME", _EXPERIMENT)
    method = args.make_method()
    pairs = open_pairs(files.dataset_folder)
    model = _base_model(files, args, pairs)
    base_folder, manifest = _check(files, args, pairs, model)
    base = described(base_folder, manifest)
    inputs = run_inputs(model, pairs.folder, {name: base[name] for name in base if name != "path"}, args)
    work = Path(files.work_folder) / fingerprint(inputs)
    lineage = {
        "dataset": inputs["dataset"],
        "base_model": inputs["base_model"],
        "knowledge_base": base,
        "parameters": telling(args) | {"processes": args.world_size},
        **running_code(),
    }
    with only_run(work) if first else nullcontext():
        if first:
            begin(work, inputs, args)
        _wait()
        if not (work / "model").is_dir():
            with _knowledge(files, args, model, (base_folder, manifest), work) as knowledge:
                prompts = PromptBuilder(model.generator.prompt_tokens, knowledge.passages, model.config)
                own = _for_stage(args, work / "rag")
                judged = replace(
                    pairs,
                    train=judged_in(pairs.train, knowledge.passages),
                    validation=judged_in(pairs.validation, knowledge.passages),
                )
                _train(
                    model, own, method, prompts, judged, knowledge.search, work / "model", lineage, files.model_folder
                )
        del model
        gc.collect()  # a trainer refers to itself, and would keep weights and moments on the device
        if _trains_closed_book(files, args) and not (work / "closed_book_model").is_dir():
            base_model = _base_model(files, args, pairs, tells=False)
            prompts = PromptBuilder(base_model.generator.prompt_tokens, [], base_model.config)
            own = _for_stage(args, work / "closed_book")
            own.max_steps = args.max_steps if args.closed_book_steps < 0 else args.closed_book_steps
            own.metric_for_best_model = "loss" if args.metric_for_best_model == "loss" else ClosedBook.best_by
            told = lineage | {"closed_book": True}
            _train(
                base_model,
                own,
                ClosedBook(),
                prompts,
                pairs,
                None,
                work / "closed_book_model",
                told,
                files.model_folder,
            )
        figures = _results(work)
        _wait()
        if first:
            _publish(work, files, args)
            if published:
                published(figures)
            shutil.rmtree(work)
    return figures


def _check(files: RunFiles, args: RagTrainingArguments, pairs: Pairs, model: RagModel) -> tuple[Path, Manifest]:
    """Everything that can be known to be wrong before anything is trained; the knowledge base's folder and manifest."""
    pairs.check_tokenizers(model)
    if args.eval_strategy != "no" and not len(pairs.validation):
        raise TrainingError(f"{pairs.folder}/validation: holds no question; give some, or set eval_strategy to no")
    if args.process_index == 0 and model.question_encoder.normalizes and args.temperature > _HIGH_TEMPERATURE:
        say(
            f"warning: temperature={args.temperature:g} with vectors of length 1 makes p(z | x) almost uniform, and "
            "the question encoder hardly learns; about 0.05 is usual"
        )
    if args.process_index == 0:
        for folder in filter(None, (files.output_folder, files.closed_book_folder, files.work_folder)):
            _check_writable(Path(folder))
    base_folder, manifest = check_knowledge(files, args, model)
    if args.make_method().refreshes:
        trained = trained_folder(files, base_folder, "run")
        if trained.resolve() == base_folder.resolve().parent:
            raise TrainingError(
                f"{trained}: is the knowledge base that the run starts from, which is only read; choose another "
                "trained_knowledge_base_folder"
            )
        if args.process_index == 0:
            _check_writable(trained)
    return base_folder, manifest


@contextmanager
def _knowledge(
    files: RunFiles, args: RagTrainingArguments, model: RagModel, start: tuple[Path, Manifest], work: Path
) -> Iterator[Knowledge]:
    """The knowledge base as it was given; where the passage encoder is trained, made anew meanwhile."""
    if not args.make_method().refreshes:
        with open_knowledge(*start, files, args) as knowledge:
            yield knowledge
        return
    with ray_connection(args) if args.retrieval == "ray" else nullcontext():
        refreshed = RefreshedKnowledge(files, args, model.passage_encoder, start, work)
        with refreshed, Reading(start[0]):  # whose passages are read to the end
            yield Knowledge(refreshed, refreshed.passages)


def _check_writable(folder: Path) -> None:
    """Now, rather than when hours of training are to be saved."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder.parent):
            return
    except OSError as error:
        raise TrainingError(f"{folder}: cannot be written ({error}); choose another folder") from error


def _base_model(files: RunFiles, args: RagTrainingArguments, pairs: Pairs, tells: bool = True) -> RagModel:
    model = load_model(files.model_folder, trust_remote_code=files.trust_remote_code) if files.model_folder else None
    changed = args.settle(model.config if model is not None else RagConfig())
    config = RagConfig(
        marginalization=args.make_method().marginalization,
        n_docs=args.n_docs,
        temperature=args.temperature,
        max_question_tokens=pairs.max_question_tokens,
        max_answer_tokens=pairs.max_answer_tokens,
        max_input_tokens=args.max_input_tokens,
        prompt=args.prompt,
    )
    if model is not None:
        own = model.config.marginalization
        if own != config.marginalization:
            changed.append(f"marginalization={config.marginalization} (method={args.method}) instead of {own}")
        if changed and tells and args.process_index == 0:
            say(f"{files.model_folder}: is trained further with {', '.join(changed)}")
        model.config = config
        return model
    parts = (files.question_encoder, files.passage_encoder, files.generator)
    return RagModel.from_parts(*parts, config, trust_remote_code=files.trust_remote_code)


def _trains_closed_book(files: RunFiles, args: RagTrainingArguments) -> bool:
    """Whether the baseline is asked for, and means something: a generator that is not trained has none."""
    learns = "generator" in args.make_method().trains - frozen_parts(args)
    return bool(files.closed_book_folder and args.closed_book_steps and learns)


def _for_stage(args: RagTrainingArguments, folder: Path) -> RagTrainingArguments:
    """A copy with the stage's own folders; the device and the processes stay those that are set up."""
    own = copy.copy(args)
    own.output_dir = str(folder)
    own.run_name = f"{folder.parent.name}-{folder.name}"
    own.tensorboard_folder = str(Path(args.tensorboard_folder or folder.parent / "tensorboard") / folder.name)
    return own


def _train(
    model: RagModel,
    args: RagTrainingArguments,
    method: Method,
    prompts: PromptBuilder,
    pairs: Pairs,
    search: Search | None,
    folder: Path,
    lineage: dict[str, Any],
    trained_before: str,
) -> None:
    trainer = RagTrainer(model, args, method, prompts, pairs.train, pairs.validation, search=search)
    trainer.fit()
    metric = str(args.metric_for_best_model)
    figures = results(trainer.state, trainer.clock, metric)
    if trainer.refreshed is not None:
        lineage = lineage | {"knowledge_base": trainer.refreshed.serve_trained()}
        figures |= trainer.refreshed.figures()
    make_whole(trainer.model)
    if trainer.is_world_process_zero():
        if not improved(trainer.state, metric):
            say("warning: no step answered the validation questions better than the base model did; see the curve")
        with atomic_path(folder) as temporary:
            save_model(model, temporary, lineage)
            asked = (split["question"] for split in (pairs.train, pairs.validation))
            write_learnt(temporary, itertools.chain.from_iterable(asked), trained_before)
            _write(temporary / TRAINING_LOG, curve(trainer.state.log_history))
            _write(temporary / _RESULTS, figures)
    _wait()


def _results(work: Path) -> dict[str, float]:
    figures: dict[str, float] = {}
    for folder, prefix in (("model", ""), ("closed_book_model", "closed_book_")):
        path = work / folder / _RESULTS
        if path.is_file():
            stage = json.loads(path.read_text(encoding="utf-8"))
            figures |= {prefix + name: value for name, value in stage.items()}
    return figures


def _publish(work: Path, files: RunFiles, args: RagTrainingArguments) -> None:
    """Copy what was trained to where it was asked for, the model last."""
    outputs = [(work / "model", files.output_folder)]
    if _trains_closed_book(files, args):
        outputs.insert(0, (work / "closed_book_model", files.closed_book_folder))
    for source, target in outputs:
        with atomic_path(target) as temporary:
            shutil.copytree(source, temporary)


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _wait() -> None:
    if dist.is_initialized():
        dist.barrier()
