"""The ranges of a training's parameters, checked before anything is made of them, without loading torch."""

import math
import re
from collections.abc import Mapping
from typing import Any

from ragtune.errors import TrainingError
from ragtune.training.methods.options import make_method, parse_options

RETRIEVALS = ("direct", "gather", "ray", "exact")
METRICS = ("em", "loss", "recall@1", "recall@5", "recall@<n_docs>")
PRECISIONS = ("auto", "bf16", "fp32")
SHORT_NAMES = {
    "batch_size": "per_device_train_batch_size",
    "eval_batch_size": "per_device_eval_batch_size",
    "gradient_checkpointing": "activation_checkpointing",
}
_CHOICES = {"retrieval": RETRIEVALS, "precision": PRECISIONS}
MOST_PASSAGES = 16_384  # Milvus finds no more at once
_LEAST = {
    "n_docs": 1,
    "max_steps": -1,
    "seed": 0,
    "retrieval_actors": 1,
    "max_input_tokens": 16,
    "question_encoder_learning_rate": 0,
    "passage_encoder_learning_rate": 0,
    "refresh_every": 1,
    "max_staleness": 0,
    "weight_decay": 0,
    "warmup_steps": 0,
    "closed_book_steps": -1,
    "max_eval_questions": 0,
    "early_stopping_patience": 0,
    "eval_num_beams": 1,
    "eval_steps": 0,
    "save_steps": 0,
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
}
_MOST = {"n_docs": MOST_PASSAGES, "seed": 2**32 - 1}
_DEVICE = re.compile(r"([a-z]+(:\d+)?(,[a-z]+(:\d+)?)*)?")
_POSITIVE = ("temperature", "learning_rate", "num_train_epochs")


def check_ranges(parameters: Mapping[str, Any]) -> None:
    """Check those of a training's parameters that are given, by their long or short names; others are passed over.

    Raises:
        TrainingError: one is out of its range, or two contradict each other.
    """
    parameters = {name: value for name, value in parameters.items() if value is not None}
    given = {SHORT_NAMES.get(name, name): (name, value) for name, value in parameters.items()}
    for long_name, (name, value) in given.items():
        choices, least, most = _CHOICES.get(long_name), _LEAST.get(long_name), _MOST.get(long_name)
        if choices and value not in choices:
            raise TrainingError(f"{name}={value!r}: must be one of {', '.join(choices)}")
        if least is not None and not value >= least:
            raise TrainingError(f"{name}={value}: must be at least {least}")
        if long_name in _POSITIVE and not value > 0:
            raise TrainingError(f"{name}={value}: must be greater than 0")
        if most is not None and value > most:
            raise TrainingError(f"{name}={value}: must be at most {most}")
        if isinstance(value, float) and not math.isfinite(value):
            raise TrainingError(f"{name}={value}: must be a finite number")
    if not _DEVICE.fullmatch(parameters.get("refresh_device", "")):
        raise TrainingError(f"refresh_device={parameters['refresh_device']!r}: give a device, such as cuda:0 or cpu")
    if "method" in parameters:
        make_method(parameters["method"], parse_options(parameters.get("method_options")))
    metric = parameters.get("metric_for_best_model")  # empty is the method's own
    if metric and metric not in (*METRICS, f"recall@{parameters.get('n_docs')}"):
        raise TrainingError(f"metric_for_best_model={metric!r}: must be one of {', '.join(METRICS)}")
    if not 0 <= parameters.get("adam_beta2", 0) < 1:
        raise TrainingError(f"adam_beta2={parameters['adam_beta2']}: must be at least 0 and below 1")
    if parameters.get("max_steps") == 0:
        raise TrainingError("max_steps=0: give a number of steps, or -1 to count by num_train_epochs")
    if parameters.get("freeze_question_encoder") and parameters.get("freeze_generator"):
        raise TrainingError("freeze_question_encoder and freeze_generator together leave nothing to train")
    if 0 < parameters.get("max_staleness", 0) < parameters.get("refresh_every", 0):
        raise TrainingError(
            f"max_staleness={parameters['max_staleness']}: a knowledge base is made anew every refresh_every="
            f"{parameters['refresh_every']} steps only; set it to that or more, or to 0 to never wait"
        )
