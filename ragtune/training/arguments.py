"""The files that a fine-tuning run reads and writes, and every parameter that it takes."""

from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from ragtune.errors import TrainingError
from ragtune.models.devices import best_device, computes_in_bfloat16
from ragtune.models.rag import RagConfig
from ragtune.training.methods import METHODS
from ragtune.training.methods.base import Method
from ragtune.training.methods.options import make_method, parse_options
from ragtune.training.options import TRAINING_OPTIONS
from ragtune.training.ranges import PRECISIONS, RETRIEVALS, check_ranges


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
        tracking_uri: MLflow's, for the curves, a run a stage; "" tells it nothing.
        outcome_file: the run's results or its error, as JSON, for the process that started it.
    """

    dataset_folder: str = field(metadata={"help": "tokenised pairs"})
    knowledge_base_folder: str = field(metadata={"help": "the knowledge base to retrieve from"})
    output_folder: str = field(metadata={"help": "where the model lands, whole or not at all"})
    work_folder: str = field(metadata={"help": "where checkpoints live until the run is done"})
    model_folder: str = field(default="", metadata={"help": "base model that ragtune has saved"})
    question_encoder: str = field(default="", metadata={"help": "name or path of the question encoder"})
    passage_encoder: str = field(default="", metadata={"help": "name or path of the passage encoder"})
    generator: str = field(default="", metadata={"help": "name or path of the generator"})
    closed_book_folder: str = field(
        default="", metadata={"help": "where the closed-book baseline lands; none if empty"}
    )
    trained_knowledge_base_folder: str = field(
        default="", metadata={"help": "of the knowledge base that rag-end2end makes; beside the given one if empty"}
    )
    milvus_uri: str = field(default="", metadata={"help": "reach the knowledge base's Milvus there"})
    tracking_uri: str = field(default="", metadata={"help": "MLflow's, for the curves; none if empty"})
    outcome_file: str = field(default="", metadata={"help": "metrics or error of the run, as JSON"})
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


def _of_model(help_: str) -> Any:
    return field(default=None, metadata={"help": f"{help_}; the base model's own if not given"})


@dataclass
class RagTrainingArguments(TrainingArguments):
    """`TrainingArguments` with safe defaults, and what retrieval needs besides.

    `max_steps` wins over `num_train_epochs` where it is positive. A step sees `per_device_train_batch_size` x
    `gradient_accumulation_steps` x processes questions. `warmup_steps` below 1 is a share of all steps.

    Attributes:
        method: what is trained and how, one of `ragtune.training.methods.METHODS`: "rag" (RAG-sequence), "rag-token",
            or "rag-end2end": RAG-sequence that trains the passage encoder too, and rebuilds the knowledge base with it
            in the background.
        method_options: settings that this method alone knows, by the names of its options' dataclass.
        retrieval: "direct", each process asks the knowledge base; "gather", the first process asks for all; "ray",
            Ray actors outside the training processes ask, on the cluster at RAY_ADDRESS where that is set; or "exact",
            each process compares its questions with all vectors, on its own device, without Milvus.
        retrieval_actors: so many Ray actors; more than one needs a Milvus server.
        overlap_search: search for a step's passages while the step before trains, with the question encoder as it was
            then; their scores are always the live encoder's.
        n_docs: passages retrieved for a question. Where it is not given, it is the base model's own: what ragtune.json
            says in a `model_folder`, else the default of `RagConfig`. So are the next three.
        temperature: τ of p(z | x) = softmax(q·d / τ); about 0.05 for encoders with unit vectors, 1 for DPR.
        prompt: the generator's input, with {title}, {text} and {question} in it.
        max_input_tokens: the generator's input, passage and question together; the passage is cut.
        question_encoder_learning_rate: 0 takes `learning_rate`.
        passage_encoder_learning_rate: of rag-end2end; 0 takes the question encoder's.
        freeze_question_encoder, freeze_generator: leave that part as it is.
        refresh_every: of rag-end2end, steps between two snapshots of the passage encoder, each of which makes the
            knowledge base anew; longer where the one before is still at work.
        max_staleness: of rag-end2end, in steps: training waits where the knowledge base is older; 0 never waits.
        refresh_device: of rag-end2end, where passages are embedded anew, such as "cuda:1", "cuda:2,cuda:3" or "cpu"; ""
            is all GPUs that do not train, else the first training GPU where its memory allows, else the CPU, with few
            threads and low priority.
        closed_book_steps: steps of the closed-book baseline; -1 takes as many as the model, 0 trains none.
        max_eval_questions: validation questions answered at each evaluation; 0 takes all.
        save_steps: steps between two whole checkpoints, of which the last `save_total_limit` stay; 0 means every 15
            minutes. Either way the last step has one. The best step is kept apart from them, as weights alone.
        early_stopping_patience: end where so many evaluations in a row brought no better step; 0 trains all steps.
        eval_num_beams: beams of the generation in an evaluation.
        resume_from: another run in the work folder, by name, or a run's folder: a run that has no checkpoint of its own
            goes on from that one's last, though parameters differ, such as a larger `max_steps` or a smaller `n_docs`.
        tensorboard_folder: of the event files; "" puts them beside the checkpoints, with which they go.
        fully_shard: spread weights, gradients and the optimizer's moments over the processes (FSDP) instead of keeping
            all on each (DDP): less memory, more traffic. The results are the same; in bf16,
            which weights are then sent in, within its rounding.
        precision: "auto" is bf16 on a GPU that has it, else fp32.
    """

    method: str = field(default="rag", metadata={"help": f"one of {', '.join(METHODS)}"})
    method_options: dict | str | None = field(default=None, metadata={"help": "of this method alone, as JSON"})
    retrieval: str = field(default="direct", metadata={"help": f"one of {RETRIEVALS}", "choices": RETRIEVALS})
    retrieval_actors: int = field(default=1, metadata={"help": "Ray actors that search"})
    overlap_search: bool = field(default=True, metadata={"help": "search for the next step while this one trains"})
    n_docs: int = _of_model("passages retrieved for a question")
    temperature: float = _of_model("temperature of p(z | x)")
    prompt: str = _of_model("the generator's input")
    max_input_tokens: int = _of_model("generator's input, passage and question together")
    question_encoder_learning_rate: float = field(default=0.0, metadata={"help": "0 takes learning_rate"})
    passage_encoder_learning_rate: float = field(default=0.0, metadata={"help": "0 takes the question encoder's"})
    refresh_every: int = field(default=100, metadata={"help": "rag-end2end: steps from snapshot to snapshot"})
    max_staleness: int = field(default=0, metadata={"help": "rag-end2end: oldest base in steps; 0: never waits"})
    refresh_device: str = field(default="", metadata={"help": "rag-end2end: embeds passages anew; else chosen"})
    freeze_question_encoder: bool = field(default=False, metadata={"help": "leave the question encoder as it is"})
    freeze_generator: bool = field(default=False, metadata={"help": "leave the generator as it is"})
    closed_book_steps: int = field(default=-1, metadata={"help": "-1: as many as the model; 0: no baseline"})
    max_eval_questions: int = field(default=500, metadata={"help": "validation questions an evaluation; 0: all"})
    early_stopping_patience: int = field(default=0, metadata={"help": "evaluations without a better step; 0: never"})
    eval_num_beams: int = field(default=1, metadata={"help": "beams in an evaluation"})
    resume_from: str = field(default="", metadata={"help": "a run with other parameters to go on from"})
    tensorboard_folder: str = field(default="", metadata={"help": "TensorBoard's event files"})
    fully_shard: bool = field(default=False, metadata={"help": "spread the weights over the processes (FSDP)"})
    precision: str = field(default="auto", metadata={"help": f"one of {PRECISIONS}", "choices": PRECISIONS})

    # Trainer's own, with other defaults.
    learning_rate: float = field(default=3e-5, metadata={"help": "peak learning rate"})
    weight_decay: float = field(default=0.01, metadata={"help": "AdamW's weight decay"})
    warmup_steps: float = field(default=0.05, metadata={"help": "warm-up; below 1 a share of all steps"})
    eval_strategy: str = field(default="steps", metadata={"help": "no, steps or epoch"})
    eval_steps: float = field(default=100, metadata={"help": "steps between two evaluations"})
    eval_on_start: bool = field(default=True, metadata={"help": "evaluate the base model first"})
    per_device_eval_batch_size: int = field(default=32, metadata={"help": "questions at a time in an evaluation"})
    save_steps: float = field(default=0, metadata={"help": "steps between two checkpoints; 0: every 15 minutes"})
    save_total_limit: int = field(default=2, metadata={"help": "checkpoints kept"})
    logging_steps: float = field(default=10, metadata={"help": "steps between two lines of the log"})
    logging_first_step: bool = field(default=True, metadata={"help": "log the first step"})
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "must stay off: a NaN stops the run"})
    report_to: str = field(default="tensorboard", metadata={"help": "tensorboard, mlflow or none; several in JSON"})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "keep the best step of the validation"})
    metric_for_best_model: str = field(default="", metadata={"help": "em, loss or recall@k; empty: the method's own"})
    greater_is_better: bool = field(default=True, metadata={"help": "follows from metric_for_best_model"})
    remove_unused_columns: bool = field(default=False, metadata={"help": "must stay off"})
    disable_tqdm: bool = field(default=True, metadata={"help": "progress is a line per log instead"})

    def __post_init__(self) -> None:
        """Check the parameters, then let the parent set up the device and the processes.

        Raises:
            TrainingError: a parameter is out of its range, or two of them contradict each other.
        """
        self._take_numbers()
        self._check()
        self.method_options = parse_options(self.method_options)
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
        for name in ("n_docs", "temperature", "prompt", "max_input_tokens"):
            own = getattr(config, name)
            if getattr(self, name) is None:
                setattr(self, name, own)
            elif getattr(self, name) != own:
                changed.append(f"{name}={getattr(self, name)} instead of {own}")
        return changed

    def make_method(self) -> Method:
        """The method with its options, as new."""
        return make_method(self.method, parse_options(self.method_options))

    def _take_numbers(self) -> None:
        """YAML reads 3e-5 as a string, JSON may write 5 as 5.0."""
        for field_ in fields(self):
            value = getattr(self, field_.name, None)
            if field_.type in (int, float) and value is not None:
                try:
                    number = float(value)
                    setattr(self, field_.name, int(number) if field_.type is int else number)
                except (TypeError, ValueError, OverflowError) as error:
                    raise TrainingError(f"{field_.name}={value!r}: must be a number") from error
                if number != getattr(self, field_.name):
                    raise TrainingError(f"{field_.name}={value!r}: must be a whole number")

    def _check(self) -> None:
        check_ranges(vars(self))
        if self.fully_shard and self.torch_compile:
            raise TrainingError("fully_shard=True: is not possible with torch_compile=True; choose one of the two")
        if self.save_strategy == "best":
            raise TrainingError("save_strategy=best: the best step is kept anyway; give steps, epoch or no")
        for name, why in _NOT_POSSIBLE.items():
            if getattr(self, name):
                raise TrainingError(f"{name}={getattr(self, name)!r}: is not possible here, {why}")
        own = set(RagTrainingArguments.__annotations__) | set(TRAINING_OPTIONS) | _HONOURED
        for field_ in fields(TrainingArguments):
            name, value = field_.name, getattr(self, field_.name, None)
            default = field_.default_factory() if field_.default_factory is not MISSING else field_.default
            unset = value == default or (not value and default in (None, "no"))  # as a command line writes it
            if field_.init and name not in own and not unset:
                raise TrainingError(f"{name}={value!r}: is an argument of transformers' Trainer without effect here")


# Of Trainer's own arguments, those that do what they say beside `TRAINING_OPTIONS`; any other is refused.
_HONOURED = {
    "activation_checkpointing_kwargs",
    "adam_beta2",
    "ddp_broadcast_buffers",
    "ddp_find_unused_parameters",
    "ddp_static_graph",
    "debug",
    "fp16",
    "gradient_accumulation_steps",
    "gradient_checkpointing",
    "gradient_checkpointing_kwargs",
    "local_rank",
    "log_level",
    "log_level_replica",
    "logging_strategy",
    "max_steps",
    "optim_target_modules",
    "output_dir",
    "per_device_train_batch_size",
    "save_strategy",
    "seed",
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
