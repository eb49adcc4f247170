"""One hash of all that a run's result depends on: a run resumes another's checkpoints only if it is the same."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import ragtune
from ragtune.files import content_hash
from ragtune.models.rag import RagModel
from ragtune.models.weights import add_weights
from ragtune.settings.pipeline import Processes
from ragtune.settings.training import Training
from ragtune.training.arguments import OWN, RagTrainingArguments

# Of Trainer's own parameters, what one compares runs by.
_TELLING = {
    "adam_beta1",
    "adam_beta2",
    "bf16",
    "gradient_accumulation_steps",
    "lr_scheduler_type",
    "max_grad_norm",
    "max_steps",
    "num_train_epochs",
    "per_device_train_batch_size",
    "seed",
}
# Where a run happens and what it prints.
_PLACE = {
    "disable_tqdm",
    "local_rank",
    "log_level",
    "log_level_replica",
    "output_dir",
    "refresh_device",
    "report_to",
    "resume_from",
    "run_name",
    "save_total_limit",
    "tensorboard_folder",
    "use_cpu",
}
# What a run costs in memory and time, not what it learns; of batches, accumulation and processes the product counts.
_COST = {
    "activation_checkpointing",
    "activation_checkpointing_kwargs",
    "attn_implementation",
    "dataloader_num_workers",
    "dataloader_persistent_workers",
    "dataloader_pin_memory",
    "dataloader_prefetch_factor",
    "ddp_backend",
    "ddp_broadcast_buffers",
    "ddp_bucket_cap_mb",
    "ddp_find_unused_parameters",
    "ddp_static_graph",
    "ddp_timeout",
    "debug",
    "encoder_attn_implementation",
    "fully_shard",
    "gradient_accumulation_steps",
    "gradient_checkpointing",
    "gradient_checkpointing_kwargs",
    "logging_first_step",
    "logging_nan_inf_filter",
    "logging_steps",
    "logging_strategy",
    "per_device_eval_batch_size",
    "per_device_train_batch_size",
    "precision",  # which bf16 says
    "retrieval",  # but whether it is exact
    "retrieval_actors",
    "save_steps",
    "save_strategy",
    "torch_compile",
    "torch_compile_backend",
    "torch_compile_mode",
    "torch_empty_cache_steps",
}
_WITHOUT_EFFECT = _PLACE | _COST
_HOUSEKEEPING = _PLACE | {
    "eval_on_start",
    "logging_first_step",
    "logging_nan_inf_filter",
    "remove_unused_columns",
}


def run_inputs(
    model: RagModel, dataset_folder: str | Path, knowledge_base: dict[str, Any], args: RagTrainingArguments
) -> dict[str, Any]:
    """All that a run's result depends on, as JSON values: data, knowledge base, base model, parameters, version.

    What saves memory or time is left out, so that a run which ran out of memory resumes with other settings.

    Args:
        model: the base model, as loaded.
        dataset_folder: tokenised pairs.
        knowledge_base: what its manifest says that matters.
        args: all parameters.
    """
    parameters = effective(args.to_dict(), args.world_size)
    if args.make_method().loss_by_batch:
        parameters["per_device_eval_batch_size"] = args.per_device_eval_batch_size
    return {
        "ragtune": ragtune.__version__,
        "dataset": pairs_hash(Path(dataset_folder)),
        "knowledge_base": knowledge_base,
        "base_model": {
            "question_encoder": model.question_encoder.fingerprint,
            "passage_encoder": model.passage_encoder.fingerprint,
            "generator": _weights_hash(model.generator.backbone),
        },
        "parameters": parameters,
    }


def effective(parameters: Mapping[str, Any], processes: int = 1) -> dict[str, Any]:
    """Return the parameters that a result depends on; of those that save memory or time what they amount to.

    Args:
        parameters: by their names in `RagTrainingArguments`; batches, accumulation and retrieval that are not among
            them are the defaults.
        processes: that train.
    """
    kept = {name: value for name, value in parameters.items() if name not in _WITHOUT_EFFECT}
    batch = parameters.get("per_device_train_batch_size", Processes.batch_size)
    accumulation = parameters.get("gradient_accumulation_steps", Training.gradient_accumulation_steps)
    exact = parameters.get("retrieval") == "exact"
    return kept | {"questions_per_step": batch * accumulation * processes, "exact_search": exact}


def telling(args: RagTrainingArguments) -> dict[str, Any]:
    """The parameters by which one compares runs, for the model's lineage and the report."""
    own = (set(OWN) | set(RagTrainingArguments.__annotations__)) - _HOUSEKEEPING
    told = {name: value for name, value in sorted(args.to_dict().items()) if name in own | _TELLING}
    if not told["method_options"]:
        del told["method_options"]
    return told


def fingerprint(inputs: dict[str, Any]) -> str:
    """The first 16 hex digits of the SHA-256 of `inputs`: the name of a run's folder."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()[:16]


def pairs_hash(folder: Path) -> str:
    """Of the rows and of how they were tokenised; not of what `datasets` writes about itself beside them."""
    digest = hashlib.sha256()
    for path in sorted([*folder.rglob("*.arrow"), *folder.glob("tokenization.json")]):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{content_hash(path)}\n".encode())
    return digest.hexdigest()


def _weights_hash(module: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    add_weights(digest, module.state_dict())
    return digest.hexdigest()
