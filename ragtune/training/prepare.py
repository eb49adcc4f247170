"""A run before its first step: the base model, and all that can be known to be wrong before anything is trained."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragtune.errors import TrainingError
from ragtune.hub import check_positions
from ragtune.knowledge.manifest import Manifest
from ragtune.models.checkpoint import load_model
from ragtune.models.pretrained import set_attention
from ragtune.models.rag import RagConfig, RagModel
from ragtune.provenance import running_code
from ragtune.training.arguments import RagTrainingArguments, RunFiles
from ragtune.training.checkpointing.fingerprint import fingerprint, run_inputs, telling
from ragtune.training.knowledge import check_knowledge
from ragtune.training.pairs import Pairs, open_pairs
from ragtune.training.refresh.trained_base import described, trained_folder
from ragtune.training.telemetry.progress_lines import say

_EXPERIMENT = "ragtune-training"  # in MLflow, unless MLFLOW_EXPERIMENT_NAME says another
_HIGH_TEMPERATURE = 0.3  # for unit vectors
_ATTENTION = {
    "attn_implementation": ("generator",),
    "encoder_attn_implementation": ("question_encoder", "passage_encoder"),
}


@dataclass
class Prepared:
    """A run that has been checked, ready to be trained.

    Attributes:
        files, args: of the run.
        pairs: the questions to train and to validate on.
        model: the base model; goes when it has been trained, to make room.
        base: folder and manifest of the version of the knowledge base that the run starts from.
        inputs: all that the result depends on, as `run_inputs` says.
        lineage: of the model, for `save_model`.
        work: the run's own folder in `files.work_folder`, named after the fingerprint of `inputs`; not made yet.
    """

    files: RunFiles
    args: RagTrainingArguments
    pairs: Pairs
    model: RagModel
    base: tuple[Path, Manifest]
    inputs: dict[str, Any]
    lineage: dict[str, Any]
    work: Path


def prepare(files: RunFiles, args: RagTrainingArguments) -> Prepared:
    """Load the base model and check everything that can be checked; every process of a run calls it.

    Raises:
        TrainingError, ModelError, KnowledgeBaseError, StorageError: with the way out.
    """
    if files.tracking_uri:
        args.report_to = [*args.report_to, "mlflow"]  # type: ignore[assignment]  # a list by now
        os.environ["MLFLOW_TRACKING_URI"] = files.tracking_uri
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_EXPERIMENT_NAME", _EXPERIMENT)
    pairs = open_pairs(files.dataset_folder)
    model = base_model(files, args, pairs)
    folder, manifest = _check(files, args, pairs, model)
    base = described(folder, manifest)
    inputs = run_inputs(model, pairs.folder, {name: base[name] for name in base if name != "path"}, args)
    lineage = {
        "dataset": inputs["dataset"],
        "base_model": inputs["base_model"],
        "knowledge_base": base,
        "parameters": telling(args) | {"processes": args.world_size},
        **running_code(),
    }
    work = Path(files.work_folder) / fingerprint(inputs)
    return Prepared(files, args, pairs, model, (folder, manifest), inputs, lineage, work)


def base_model(files: RunFiles, args: RagTrainingArguments, pairs: Pairs, tells: bool = True) -> RagModel:
    """The model to start from, with the run's settings where they were given; `tells` where a folder's own differ.

    Raises:
        ModelError: a part cannot be loaded, or does not have the attention or the positions that are asked for.
        TrainingError: that attention does not compute in the run's precision.
    """
    model = _loaded(files, args, pairs, tells)
    generator, config = model.generator, model.config
    check_positions(generator.backbone.config, generator.name, config.max_input_tokens, config.max_answer_tokens)
    for name, parts in _ATTENTION.items():
        kind = getattr(args, name)
        if kind.startswith("flash") and not args.bf16:
            raise TrainingError(f"{name}={kind}: computes in bf16 alone; train on a GPU that has it, or take sdpa")
        for part in (getattr(model, part) for part in parts):
            set_attention(part.backbone, f"{name}: {part.name}", kind)
    return model


def _loaded(files: RunFiles, args: RagTrainingArguments, pairs: Pairs, tells: bool) -> RagModel:
    model = load_model(files.model_folder, trust_remote_code=files.trust_remote_code) if files.model_folder else None
    own = model.config if model is not None else RagConfig()
    changed = args.settle(own)
    lengths = {"max_question_tokens": pairs.max_question_tokens, "max_answer_tokens": pairs.max_answer_tokens}
    config = args.model_config(own, **lengths)
    if model is not None:
        if (before := own.marginalization) != config.marginalization:
            changed.append(f"marginalization={config.marginalization} (method={args.method}) instead of {before}")
        if changed and tells and args.process_index == 0:
            say(f"{files.model_folder}: is trained further with {', '.join(changed)}")
        model.config = config
        return model
    parts = (files.question_encoder, files.passage_encoder, files.generator)
    return RagModel.from_parts(*parts, config, trust_remote_code=files.trust_remote_code)


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


def _check_writable(folder: Path) -> None:
    """Now, rather than when hours of training are to be saved."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder.parent):
            return
    except OSError as error:
        raise TrainingError(f"{folder}: cannot be written ({error}); choose another folder") from error
