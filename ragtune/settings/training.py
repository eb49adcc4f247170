"""The settings of training: `Training` are parameters of the pipeline, the others may stand in `training_options`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from ragtune.settings.setting import Like, OneOf, Range, read_values, setting, settings_of

MOST_PASSAGES = 16_384  # Milvus finds no more at once
RETRIEVALS = ("direct", "gather", "ray", "exact")
PRECISIONS = ("auto", "bf16", "fp32")
ATTENTIONS = ("", "eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3")
SHORT_NAMES = {
    "batch_size": "per_device_train_batch_size",
    "eval_batch_size": "per_device_eval_batch_size",
    "gradient_checkpointing": "activation_checkpointing",
}
_DEVICE = Like(r"([a-z]+(:\d+)?(,[a-z]+(:\d+)?)*)?", "devices, such as cuda:0 or cuda:2,cuda:3 or cpu, or empty")


@dataclass
class Training:
    """The model and how it is trained."""

    method: str = setting(
        "rag",
        "training method: `rag` (one passage explains an answer), `rag-token` (one per token), `rag-end2end` (trains "
        "the passage encoder too), `lsr` (the retriever alone, from the generator), `ralt` (the generator alone, on "
        "retrieved passages), `alternate` (these two in turn), `retriever` (both encoders, without a generator), or "
        "`federated` (several sites by one of these, whose weights are averaged)",
    )
    method_options: dict[str, Any] = setting({}, "settings that only the chosen method has, as JSON")
    retrieval: Annotated[str, OneOf(RETRIEVALS)] = setting(
        "direct",
        "who searches: `direct` (each process), `gather` (the first process for all), `ray` (actors) or `exact` (each "
        "process, without an index)",
    )
    n_docs: Annotated[int, Range(1, MOST_PASSAGES)] = setting(5, "passages retrieved per question")
    temperature: Annotated[float, Range(above=0)] = setting(
        1.0, "temperature of p(z|x): 1 for DPR, 0.05 to 0.1 for encoders with vectors of length 1"
    )
    prompt: str = setting(
        "{title} / {text} // {question}", "input of the generator, with {title}, {text} and {question}"
    )
    max_input_tokens: Annotated[int, Range(16)] = setting(
        300, "longest input of the generator, in tokens; the passage is cut, never the question"
    )
    max_steps: Annotated[int, Range(-1)] = setting(1000, "optimizer steps; -1 trains for `num_train_epochs`")
    gradient_accumulation_steps: Annotated[int, Range(1)] = setting(1, "batches per optimizer step")
    learning_rate: Annotated[float, Range(above=0)] = setting(
        3e-5, "peak learning rate of the generator, and of the encoders that have none of their own"
    )
    question_encoder_learning_rate: Annotated[float, Range(0)] = setting(
        0.0, "peak learning rate of the question encoder; 0 means `learning_rate`"
    )
    passage_encoder_learning_rate: Annotated[float, Range(0)] = setting(
        0.0, "peak learning rate of the passage encoder, where it is trained; 0 means the question encoder's"
    )
    refresh_every: Annotated[int, Range(1)] = setting(
        100, "steps between two re-encodings of the knowledge base, where the passage encoder is trained"
    )
    max_staleness: Annotated[int, Range(0)] = setting(
        0, "age of the knowledge base, in steps, at which training waits for its refresh; 0 never waits"
    )
    refresh_device: Annotated[str, _DEVICE] = setting(
        "",
        "devices that re-encode passages, such as `cuda:2,cuda:3`; empty means the GPUs that do not train, else the "
        "first training GPU where its memory allows, else the CPU",
    )
    adam_beta2: Annotated[float, Range(0, below=1)] = setting(0.999, "second beta of AdamW")
    warmup_steps: Annotated[float, Range(0)] = setting(
        0.05, "steps until the learning rate peaks; a number below 1 is a share of all steps"
    )
    eval_steps: Annotated[float, Range(0)] = setting(
        100, "steps between two validations, the best of which is kept; a number below 1 is a share of all steps"
    )
    closed_book_steps: Annotated[int, Range(-1)] = setting(
        -1, "steps of the closed-book baseline; -1 means `max_steps`, 0 trains none"
    )
    seed: Annotated[int, Range(0, 2**32 - 1)] = setting(0, "random seed")


@dataclass
class TrainingOptions:
    """Options of ragtune's own, and some of Trainer's with other defaults."""

    early_stopping_patience: Annotated[int, Range(0)] = setting(
        0, "stop after this many validations in a row without a better step; 0 trains all steps"
    )
    metric_for_best_model: str = setting(
        "", "validation metric that chooses the best step: `em`, `loss` or `recall@k`; empty means the method's own"
    )
    load_best_model_at_end: bool = setting(True, "keep the best validated step instead of the last step")
    eval_strategy: Annotated[str, OneOf(("no", "steps", "epoch"))] = setting("steps", "when to validate")
    eval_on_start: bool = setting(True, "validate the base model before the first step")
    max_eval_questions: Annotated[int, Range(0)] = setting(500, "validation questions; 0 means all")
    eval_num_beams: Annotated[int, Range(1)] = setting(1, "beams in a validation")
    per_device_eval_batch_size: Annotated[int, Range(1)] = setting(
        32, "questions per batch in a validation; `eval_batch_size` for short"
    )
    save_steps: Annotated[float, Range(0)] = setting(0, "steps between two checkpoints; 0 means every 15 minutes")
    save_total_limit: Annotated[int, Range(1)] = setting(2, "checkpoints kept; the best step is kept apart from them")
    resume_from: str = setting("", "unfinished run with other parameters to resume, by name or folder")
    weight_decay: Annotated[float, Range(0)] = setting(0.01, "weight decay of AdamW")
    proximal_mu: Annotated[float, Range(0)] = setting(
        0.0, "pull of the weights to where the run began: mu / 2 · ‖w − w₀‖² is added to the loss, as FedProx does"
    )
    freeze_question_encoder: bool = setting(False, "do not train the question encoder")
    freeze_generator: bool = setting(False, "do not train the generator")
    chat_template: Annotated[str, OneOf(("auto", "on", "off"))] = setting(
        "auto",
        "make the prompt a user's message: `auto` where a decoder-only generator has a chat template, `on` or `off`",
    )
    lora_rank: Annotated[int, Range(0)] = setting(
        0, "train a LoRA adapter of this rank in the generator instead of its weights; 0 trains the weights"
    )
    lora_alpha: Annotated[float, Range(above=0)] = setting(
        16.0, "what the adapter adds is multiplied by `lora_alpha` / `lora_rank`"
    )
    lora_dropout: Annotated[float, Range(0, below=1)] = setting(0.0, "dropout of the adapter's inputs")
    lora_targets: str = setting(
        "all-linear",
        "layers that get an adapter, by commas, such as `q_proj,v_proj`; `all-linear` is all but the output",
    )
    lora_merge: bool = setting(
        True, "add the adapter to the weights in the end; otherwise it is saved beside them, in `generator/adapter`"
    )
    overlap_search: bool = setting(
        True, "search for the next step's passages while this one trains, with the question encoder as it is then"
    )
    retrieval_actors: Annotated[int, Range(1)] = setting(
        1, "Ray actors that search; more than one needs a Milvus server"
    )
    precision: Annotated[str, OneOf(PRECISIONS)] = setting("auto", "`auto` means bf16 on a GPU that has it, else fp32")
    attn_implementation: Annotated[str, OneOf(ATTENTIONS)] = setting(
        "",
        "attention of the generator, such as `flash_attention_2`; empty means the model's own, which is mostly `sdpa`",
    )
    encoder_attn_implementation: Annotated[str, OneOf(ATTENTIONS)] = setting(
        "", "attention of the encoders; DPR's have no `flash_attention_2`"
    )
    fully_shard: bool = setting(
        False,
        "shard weights, gradients and optimizer state over the processes (FSDP): less memory, the same results, in "
        "bf16 within its rounding",
    )
    logging_steps: Annotated[float, Range(0)] = setting(10, "steps between two lines of the log")
    logging_first_step: bool = setting(True, "log the first step")
    report_to: str = setting(
        "tensorboard", "transformers' integrations that log the curves, separated by commas; `none` logs nothing"
    )
    disable_tqdm: bool = setting(True, "write log lines instead of a progress bar")


@dataclass
class TrainerOptions:
    """Options of transformers' Trainer, with its own defaults. Those that have no effect here are left out."""

    num_train_epochs: Annotated[float, Range(above=0)] = setting(
        3.0, "passes over the questions, where `max_steps` is -1"
    )
    lr_scheduler_type: str = setting("linear", "schedule of the learning rate after the warm-up, such as `cosine`")
    lr_scheduler_kwargs: dict[str, Any] | str | None = setting(None, "arguments of the schedule, as JSON")
    max_grad_norm: Annotated[float, Range(0)] = setting(1.0, "largest norm of the gradient; 0 means no clipping")
    optim: str = setting("adamw_torch_fused", "optimizer, by transformers' name for it")
    optim_args: str | None = setting(None, "arguments of the optimizer, as `name=value,…`")
    adam_beta1: Annotated[float, Range(0, below=1)] = setting(0.9, "first beta of AdamW")
    adam_epsilon: Annotated[float, Range(0)] = setting(1e-8, "epsilon of AdamW")
    data_seed: Annotated[int | None, Range(0, 2**32 - 1)] = setting(
        None, "seed of the questions' order; empty means `seed`"
    )
    full_determinism: bool = setting(False, "use deterministic kernels only, which are slower")
    bf16: bool = setting(False, "bf16 mixed precision, whatever `precision` says")
    tf32: bool | None = setting(None, "TF32 matrix products in float32; empty means PyTorch's choice")
    use_cpu: bool = setting(False, "train on the CPU, even where there is a GPU")
    activation_checkpointing: bool | None = setting(None, "recompute activations in the backward pass to save memory")
    torch_compile: bool = setting(False, "compile the model: faster steps after some minutes")
    torch_compile_backend: str | None = setting(None, "backend of `torch.compile`")
    torch_compile_mode: str | None = setting(None, "mode of `torch.compile`")
    dataloader_num_workers: Annotated[int, Range(0)] = setting(
        0, "processes that load batches; 0 means the training process itself"
    )
    dataloader_pin_memory: bool = setting(True, "load batches into pinned memory")
    dataloader_prefetch_factor: Annotated[int | None, Range(1)] = setting(None, "batches loaded ahead by each worker")
    ddp_backend: str | None = setting(None, "backend of torch.distributed; empty means `nccl` or `gloo`")
    ddp_bucket_cap_mb: Annotated[int | None, Range(1)] = setting(None, "size of DDP's buckets, in MB")
    ddp_timeout: Annotated[int, Range(1)] = setting(1800, "seconds until a process gives up waiting for the others")
    run_name: str | None = setting(None, "name of the run in MLflow")


_OPTIONS = settings_of(TrainingOptions, TrainerOptions)
OPTIONS = _OPTIONS | {short: _OPTIONS[long] for short, long in SHORT_NAMES.items() if long in _OPTIONS}


def read_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """`training_options`, each of its type and within its bounds.

    Raises:
        ParameterError: there is no such option, or its value is of another type or out of its bounds.
    """
    return read_values("training_options", OPTIONS, options)
