"""The inputs, outputs and arguments of a fine-tuning run."""

from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import torch
from transformers import TrainingArguments

from ragtune.errors import ParameterError, TrainingError
from ragtune.models.devices import best_device, computes_in_bfloat16
from ragtune.models.rag import RagConfig
from ragtune.settings.pipeline import Processes
from ragtune.settings.setting import read_value, setting, settings_of
from ragtune.settings.training import TrainerOptions, Training, TrainingOptions
from ragtune.training.methods.base import Method
from ragtune.training.methods.options import make_method, parse_options
from ragtune.training.rules import check_training
from ragtune.training.telemetry.reporting import integrations


@dataclass
class RunFiles:
    """The inputs and outputs of one run. The base model is `model_folder`, or the three parts by name or path.

    Attributes:
        dataset_folder: tokenised pairs, as `ragtune.questions.tokenization.tokenize_pairs` leaves them.
        knowledge_base_folder: as `ragtune.knowledge.knowledge_base.ingest_passages` leaves it, or a pointer to one.
        output_folder: the model lands here, whole or not at all.
        work_folder: checkpoints live here, under a fingerprint of all inputs and parameters, until the run is done.
        closed_book_folder: the closed-book baseline lands here; "" trains none.
        trained_knowledge_base_folder: of the knowledge base that rag-end2end makes with the trained passage encoder; ""
            is beside the one of the start, under its name and the run's fingerprint.
        milvus_uri: reach the knowledge base's Milvus there instead of where its feature_store.yaml says.
        tracking_uri: MLflow's, for the curves, one run per stage; "" logs none there.
        outcome_file: the run's results or its error, as JSON, for the process that started it.
    """

    dataset_folder: str = field(metadata={"help": "folder of tokenised pairs"})
    knowledge_base_folder: str = field(metadata={"help": "the knowledge base to retrieve from"})
    output_folder: str = field(metadata={"help": "folder to write the model to, whole or not at all"})
    work_folder: str = field(metadata={"help": "folder of checkpoints, until the run has finished"})
    model_folder: str = field(default="", metadata={"help": "folder of a base model that ragtune has saved"})
    question_encoder: str = field(default="", metadata={"help": "name or path of the question encoder"})
    passage_encoder: str = field(default="", metadata={"help": "name or path of the passage encoder"})
    generator: str = field(default="", metadata={"help": "name or path of the generator"})
    closed_book_folder: str = field(
        default="", metadata={"help": "folder to write the closed-book baseline to; empty trains none"}
    )
    trained_knowledge_base_folder: str = field(
        default="",
        metadata={"help": "folder of the knowledge base that rag-end2end builds; empty means beside the given one"},
    )
    milvus_uri: str = field(
        default="",
        metadata={"help": "URI of the knowledge base's Milvus; empty means the one in its feature_store.yaml"},
    )
    tracking_uri: str = field(default="", metadata={"help": "URI of MLflow, for the curves; empty logs none there"})
    outcome_file: str = field(default="", metadata={"help": "file for the metrics or the error of the run, as JSON"})
    trust_remote_code: bool = field(default=False, metadata={"help": "run code that comes with a model"})

    def __post_init__(self) -> None:
        parts = (self.question_encoder, self.passage_encoder, self.generator)
        if self.model_folder and any(parts):
            raise TrainingError("give model_folder, or question_encoder, passage_encoder and generator; not both")
        if not self.model_folder and not all(parts):
            raise TrainingError(
                "no base model: give model_folder, or all three of question_encoder, passage_encoder and generator"
            )
        for name in ("dataset_folder", "knowledge_base_folder", "model_folder"):
            folder = getattr(self, name)
            if folder and not Path(folder).is_dir():
                raise TrainingError(f"{folder}: no such folder; check {name}")
        if self.closed_book_folder and Path(self.closed_book_folder).resolve() == Path(self.output_folder).resolve():
            raise TrainingError(
                f"{self.output_folder}: is both output_folder and closed_book_folder; choose two folders"
            )


OWN = settings_of(Training, TrainingOptions)  # ragtune's, or Trainer's with other defaults
_PARAMETERS = settings_of(Training, TrainingOptions, Processes)
_NUMBERS = {int: "whole number", float: "number"}
_OF_MODEL = ("n_docs", "temperature", "prompt", "chat_template", "max_input_tokens")


def _like(name: str, default: Any = MISSING, what: str = "") -> Any:
    """The field of a parameter of the pipeline, under another name or with another default."""
    declared = _PARAMETERS[name]
    return setting(declared.default if default is MISSING else default, declared.help + what)


def _of_model(name: str) -> Any:
    return _like(name, None, "; the base model's own if not given")


@dataclass
class RagTrainingArguments(Training, TrainingOptions, TrainerOptions, TrainingArguments):  # type: ignore[misc]  # narrower
    """`TrainingArguments` with ragtune's settings: see `ragtune.settings.training` for their defaults and bounds.

    `max_steps` wins over `num_train_epochs` where it is positive. A step sees `per_device_train_batch_size` x
    `gradient_accumulation_steps` x processes questions. What is not given of `n_docs`, `temperature`, `prompt`,
    `chat_template` and `max_input_tokens` is the base model's own: of ragtune.json in a `model_folder`, else the
    default of `RagConfig`.

    Attributes:
        tensorboard_folder: of the event files; "" puts them beside the checkpoints, with which they go.
    """

    method_options: dict | str | None = _like("method_options", None)  # type: ignore[assignment]
    n_docs: int = _of_model("n_docs")
    temperature: float = _of_model("temperature")
    prompt: str = _of_model("prompt")
    chat_template: str = _of_model("chat_template")
    max_input_tokens: int = _of_model("max_input_tokens")
    per_device_train_batch_size: int = _like("batch_size")
    tensorboard_folder: str = setting("", "TensorBoard's event files")

    # Trainer's own, with other defaults, which must stay as they are.
    logging_nan_inf_filter: bool = setting(False, "must stay off: a NaN stops the run")
    greater_is_better: bool = setting(True, "follows from metric_for_best_model")
    remove_unused_columns: bool = setting(False, "must stay off")

    def __post_init__(self) -> None:
        """Check the parameters, then let the parent set up the device and the processes.

        Raises:
            ParameterError: a parameter is of another type or out of its bounds.
            TrainingError: two of them contradict each other, or one has no effect here.
        """
        self._take_numbers()
        self._check()
        self.method_options = parse_options(self.method_options)
        self.report_to = integrations(self.report_to)  # type: ignore[assignment]
        self.metric_for_best_model = self.metric_for_best_model or self.make_method().best_by
        self.greater_is_better = self.metric_for_best_model != "loss"
        keeps_best = self.load_best_model_at_end and self.eval_strategy != "no"
        self.load_best_model_at_end = False  # Trainer would want a whole checkpoint at every evaluation
        self.eval_on_start = self.eval_on_start and self.eval_strategy != "no"
        self.use_cpu = self.use_cpu or not torch.accelerator.is_available()
        self.bf16 = self.bf16 or self.precision == "bf16" or (self.precision == "auto" and _gpu_has_bf16(self.use_cpu))
        try:
            super().__post_init__()
        except ValueError as error:
            raise TrainingError(f"parameters: {error}") from error
        self.load_best_model_at_end = keeps_best
        self._n_gpu = min(self._n_gpu, 1)  # several GPUs in one process would mean nn.DataParallel: start torchrun

    def settle(self, config: RagConfig) -> list[str]:
        """Take over from the base model what was not given.

        Returns:
            What was given and differs, such as "n_docs=3 instead of 5".
        """
        changed = []
        for name in _OF_MODEL:
            own = getattr(config, name)
            if getattr(self, name) is None:
                setattr(self, name, own)
            elif getattr(self, name) != own:
                changed.append(f"{name}={getattr(self, name)} instead of {own}")
        return changed

    def model_config(self, own: RagConfig, **lengths: int) -> RagConfig:
        """The configuration that the trained model gets.

        Args:
            own: the base model's, for what was not given.
            lengths: `max_question_tokens` and `max_answer_tokens`, of the tokenised pairs.
        """
        given: dict[str, Any] = {name: value for name in _OF_MODEL if (value := getattr(self, name)) is not None}
        marginalization = self.make_method().marginalization or own.marginalization
        return replace(own, marginalization=marginalization, **given | lengths)

    def make_method(self) -> Method:
        """The method with its options, as new."""
        return make_method(self.method, parse_options(self.method_options))

    def _take_numbers(self) -> None:
        """Convert numbers that came as text or as 5.0, as YAML and JSON may write them."""
        for name, hint in get_type_hints(type(self)).items():
            value = getattr(self, name, None)
            if hint in (int, float) and value is not None:
                try:
                    setattr(self, name, read_value(hint, value))
                except ValueError as error:
                    raise ParameterError(f"{name}={value!r}: must be a {_NUMBERS[hint]}") from error

    def _check(self) -> None:
        check_training(vars(self))
        if self.fully_shard and self.torch_compile:
            raise TrainingError("fully_shard=True: is not possible with torch_compile=True; choose one of the two")
        if self.save_strategy == "best":
            raise TrainingError("save_strategy=best: the best step is kept anyway; give steps, epoch or no")
        for name, why in _NOT_POSSIBLE.items():
            if getattr(self, name):
                raise TrainingError(f"{name}={getattr(self, name)!r}: is not possible here, {why}")
        own = set(OWN) | set(settings_of(TrainerOptions)) | set(RagTrainingArguments.__annotations__) | _HONOURED
        for field_ in fields(TrainingArguments):
            name, value = field_.name, getattr(self, field_.name, None)
            default = field_.default_factory() if field_.default_factory is not MISSING else field_.default
            unset = value == default or (not value and default in (None, "no"))  # as a command line writes it
            if field_.init and name not in own and not unset:
                raise TrainingError(f"{name}={value!r}: is an argument of transformers' Trainer without effect here")


# Of Trainer's own arguments, those that do what they say beside the settings; any other is refused.
_HONOURED = {
    "activation_checkpointing_kwargs",
    "ddp_broadcast_buffers",
    "ddp_find_unused_parameters",
    "ddp_static_graph",
    "debug",
    "fp16",
    "gradient_checkpointing",
    "gradient_checkpointing_kwargs",
    "local_rank",
    "log_level",
    "log_level_replica",
    "logging_strategy",
    "optim_target_modules",
    "output_dir",
    "save_strategy",
    "torch_empty_cache_steps",
}
_NOT_POSSIBLE = {
    "fsdp": "where fully_shard=true does the same for a model of several parts",
    "deepspeed": "where fully_shard=true spreads a model that is too large for one device",
    "label_smoothing_factor": "the loss is a likelihood over passages",
    "auto_find_batch_size": "a step's questions must not depend on the memory; give per_device_train_batch_size",
    "enable_jit_checkpoint": "where every training writes a checkpoint when it is sent SIGTERM",
    "logging_nan_inf_filter": "it would hide a loss that is NaN",
}


def _gpu_has_bf16(use_cpu: bool) -> bool:
    return not use_cpu and best_device() == "cuda" and computes_in_bfloat16(torch.device("cuda"))
