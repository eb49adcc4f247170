"""The settings by which every site trains in a round: the run's, with the round's share of steps and learning rate."""

import json
from collections.abc import Mapping
from typing import Any

from ragtune.errors import ParameterError
from ragtune.settings.pipeline import Processes
from ragtune.settings.setting import read_values, settings_of
from ragtune.settings.training import SHORT_NAMES, TrainerOptions, Training, TrainingOptions
from ragtune.training.methods.federated import FederatedOptions

_SETTINGS = settings_of(Training, TrainingOptions, TrainerOptions)
_SETTINGS |= {long: settings_of(Processes)[name] for name, long in SHORT_NAMES.items() if name == "batch_size"}
_RATES = ("learning_rate", "question_encoder_learning_rate", "passage_encoder_learning_rate")
# Of a run, what no round has: where it happens and which of its steps is kept, which the server decides.
_NOT_LOCAL = {
    "closed_book_steps",
    "early_stopping_patience",
    "max_staleness",
    "report_to",
    "resume_from",
    "run_name",
}
SITES_OWN = {
    "activation_checkpointing",
    "attn_implementation",
    "encoder_attn_implementation",
    "gradient_accumulation_steps",
    "max_eval_questions",
    "per_device_eval_batch_size",
    "per_device_train_batch_size",
    "precision",
    "retrieval",
    "use_cpu",
}
"""Settings that a site may choose for itself: what its machine can do."""


def shared_settings(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Of a run's arguments those that every site takes over, as JSON values."""
    names = _SETTINGS.keys() - _NOT_LOCAL
    shared = {name: arguments[name] for name in sorted(names) if arguments.get(name) is not None}
    if shared.get("precision", "auto") == "auto":
        shared.pop("bf16", None)  # follows from the machine
    return json.loads(json.dumps(shared, default=str))


def round_settings(shared: Mapping[str, Any], options: FederatedOptions, number: int) -> dict[str, Any]:
    """The settings of round `number`, from 1.

    The optimizer begins anew in each round, as in FedAvg, and so does the warm-up; the learning rate falls from round
    to round as it would over all steps of one training: linearly to 0 at the end of the last round.
    """
    steps = int(shared["max_steps"])
    first, last = (steps * done // options.rounds for done in (number - 1, number))
    local: dict[str, Any] = {
        "method": options.local_method,
        "method_options": options.local_options,
        "max_steps": last - first,
        "seed": int(shared["seed"]) + number,  # other questions first than in the round before
        "eval_strategy": "steps",
        "eval_steps": last - first,
        "eval_on_start": False,
        "load_best_model_at_end": False,
        "lora_merge": False,
    }
    if str(shared.get("lr_scheduler_type", "linear")) == "linear":
        at_first, at_last = 1 - first / steps, 1 - last / steps
        local |= {name: float(shared[name]) * at_first for name in _RATES if name in shared}
        end = float(shared["learning_rate"]) * at_last
        local |= {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"lr_end": end, "power": 1.0}}
    return {**shared, **local}


def site_settings(received: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Check the server's settings, each for its type and bounds, and add those that the site has chosen for itself.

    Raises:
        ParameterError: there is no such setting, or the site may not choose it.
    """
    if refused := sorted(own.keys() - SITES_OWN):
        raise ParameterError(
            f"a site's settings: {refused[0]} is the server's to choose; a site's are {', '.join(sorted(SITES_OWN))}"
        )
    taken = read_values("the server's settings", _SETTINGS, received)
    return taken | read_values("a site's settings", _SETTINGS, own)
