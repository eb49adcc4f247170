"""The keys of `training_options`: arguments of training that are no parameter of the pipeline, without torch.

A test holds the list against `RagTrainingArguments`. Left out are Trainer's arguments that have no effect here, and
those that the pipeline itself gives.
"""

import contextlib
import difflib
from collections.abc import Mapping
from typing import Any

from ragtune.errors import TrainingError
from ragtune.training.ranges import SHORT_NAMES

TRAINING_OPTIONS: dict[str, type] = {
    "activation_checkpointing": bool,
    "adam_beta1": float,
    "adam_epsilon": float,
    "bf16": bool,
    "data_seed": int,
    "dataloader_num_workers": int,
    "dataloader_pin_memory": bool,
    "dataloader_prefetch_factor": int,
    "ddp_backend": str,
    "ddp_bucket_cap_mb": int,
    "ddp_timeout": int,
    "disable_tqdm": bool,
    "early_stopping_patience": int,
    "eval_num_beams": int,
    "eval_on_start": bool,
    "eval_strategy": str,
    "freeze_generator": bool,
    "freeze_question_encoder": bool,
    "full_determinism": bool,
    "fully_shard": bool,
    "load_best_model_at_end": bool,
    "logging_first_step": bool,
    "logging_steps": float,
    "lr_scheduler_kwargs": dict,
    "lr_scheduler_type": str,
    "max_eval_questions": int,
    "max_grad_norm": float,
    "metric_for_best_model": str,
    "num_train_epochs": float,
    "optim": str,
    "optim_args": str,
    "overlap_search": bool,
    "per_device_eval_batch_size": int,
    "precision": str,
    "report_to": str,
    "resume_from": str,
    "retrieval_actors": int,
    "run_name": str,
    "save_steps": float,
    "save_total_limit": int,
    "tf32": bool,
    "torch_compile": bool,
    "torch_compile_backend": str,
    "torch_compile_mode": str,
    "use_cpu": bool,
    "weight_decay": float,
}


def check_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with numbers as numbers: JSON may write 5 as 5.0, YAML reads 3e-5 as text.

    Raises:
        TrainingError: there is no such option, or its value is of another type.
    """
    return {name: _checked(name, value) for name, value in options.items()}


def _checked(name: str, value: Any) -> Any:
    kind = TRAINING_OPTIONS.get(SHORT_NAMES.get(name, name))
    if kind is None:
        short = [short for short, long in SHORT_NAMES.items() if long in TRAINING_OPTIONS]
        near = difflib.get_close_matches(name, [*TRAINING_OPTIONS, *short], n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(TRAINING_OPTIONS)}"
        raise TrainingError(f"training_options: {name} is none; {hint}")
    if isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool):
        return value
    if kind in (int, float) and isinstance(value, str | int | float) and not isinstance(value, bool):
        with contextlib.suppress(ValueError):
            number = float(value)
            if kind is float or number.is_integer():
                return kind(number)
    raise TrainingError(f"training_options: {name}={value!r} is not a value of type {kind.__name__}")
