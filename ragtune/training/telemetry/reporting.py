"""`report_to`: transformers' integrations that a run's curves go to, refused before training where one is missing."""

import json
from collections.abc import Sequence
from importlib.util import find_spec

from ragtune.errors import TrainingError

# Of each integration of transformers, the module that it imports and the package that brings it.
_PACKAGES = {
    "azure_ml": ("azureml", "azureml-core"),
    "clearml": ("clearml", "clearml"),
    "codecarbon": ("codecarbon", "codecarbon"),
    "comet_ml": ("comet_ml", "comet-ml"),
    "dagshub": ("dagshub", "dagshub"),
    "dvclive": ("dvclive", "dvclive"),
    "flyte": ("flytekit", "flytekit"),
    "mlflow": ("mlflow", "mlflow"),
    "neptune": ("neptune", "neptune"),
    "swanlab": ("swanlab", "swanlab"),
    "tensorboard": ("tensorboard", "tensorboard"),
    "trackio": ("trackio", "trackio"),
    "wandb": ("wandb", "wandb"),
}


def integrations(given: str | Sequence[str] | None) -> list[str]:
    """The integrations that are asked for, each once.

    Args:
        given: a name, several with commas between them or as a JSON list, or a list; "none", "" or None is none.

    Raises:
        TrainingError: there is no such integration, or its package is not installed.
    """
    names = _names(given)
    for name in names:
        if name not in _PACKAGES:
            raise TrainingError(f"report_to={name}: must be none, or some of {', '.join(_PACKAGES)}")
        module, package = _PACKAGES[name]
        if find_spec(module) is None:
            raise TrainingError(
                f"report_to={name}: takes the package {package}, which is not installed where this run trains; "
                f"pip install {package}, or leave {name} out"
            )
    return names


def _names(given: str | Sequence[str] | None) -> list[str]:
    if isinstance(given, str) and given.lstrip().startswith("["):
        try:
            given = json.loads(given)
        except ValueError as error:
            raise TrainingError(f"report_to={given}: cannot be read as JSON ({error})") from error
    parts = given.split(",") if isinstance(given, str) else list(given or [])
    names = dict.fromkeys(str(part).strip() for part in parts)
    return [name for name in names if name not in ("", "none")]
