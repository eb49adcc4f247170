"""The rules for a training's settings, checked without torch: each one's bounds, and what does not go together."""

from collections.abc import Mapping
from typing import Any

from ragtune.errors import TrainingError
from ragtune.settings.pipeline import Processes
from ragtune.settings.setting import check, settings_of
from ragtune.settings.training import OPTIONS, SHORT_NAMES, Training
from ragtune.training.methods.options import make_method, parse_options

_METRICS = ("em", "loss", "recall@1", "recall@5", "recall@<n_docs>")
_PARAMETERS = settings_of(Training, Processes)
_SETTINGS = OPTIONS | _PARAMETERS | {SHORT_NAMES["batch_size"]: _PARAMETERS["batch_size"]}


def check_training(parameters: Mapping[str, Any]) -> None:
    """Check those of a training's settings that are given, by their long or short names; others are passed over.

    Raises:
        ParameterError: one is out of its bounds.
        TrainingError: there is no such method, or two settings contradict each other.
    """
    parameters = {name: value for name, value in parameters.items() if value is not None}
    check(_SETTINGS, parameters)
    method = None
    if "method" in parameters:
        method = make_method(parameters["method"], parse_options(parameters.get("method_options")))
        frozen = parameters.get("freeze_generator") or "generator" not in method.trains
        if frozen and parameters.get("lora_rank"):
            raise TrainingError(
                f"lora_rank={parameters['lora_rank']}: an adapter is for training the generator, which is not trained; "
                "give 0, or a method that trains it, without freeze_generator"
            )
        method.check(parameters)
    metric = parameters.get("metric_for_best_model")  # empty is the method's own
    if metric and metric not in (*_METRICS, f"recall@{parameters.get('n_docs')}"):
        raise TrainingError(f"metric_for_best_model={metric!r}: must be one of {', '.join(_METRICS)}")
    if parameters.get("max_steps") == 0:
        raise TrainingError("max_steps=0: give a number of steps, or -1 to count by num_train_epochs")
    if parameters.get("freeze_question_encoder") and parameters.get("freeze_generator"):
        raise TrainingError("freeze_question_encoder and freeze_generator together leave nothing to train")
    asked = parameters.get("refresh_every", 0)
    every = method.refresh_every(asked) if method else asked
    if 0 < parameters.get("max_staleness", 0) < every:
        name = "refresh_every" if every == asked else "mine_every"
        raise TrainingError(
            f"max_staleness={parameters['max_staleness']}: the knowledge base is rebuilt every {name}={every} steps "
            "only; set it to that or more, or to 0 to never wait"
        )
