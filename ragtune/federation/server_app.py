"""The ServerApp: a federation's server, as `flwr run` starts it at a SuperLink. `app` is what that runs."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import yaml
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from ragtune.errors import ParameterError
from ragtune.federation.curves import Curves
from ragtune.federation.local import shared_settings
from ragtune.federation.outcome import write_outcome
from ragtune.federation.rounds import Plan
from ragtune.federation.server import federate
from ragtune.federation.weights import read_weights, travelling
from ragtune.files import atomic_path
from ragtune.locks import locked
from ragtune.models.checkpoint import read_description
from ragtune.settings.pipeline import Models
from ragtune.settings.setting import read_values, settings_of
from ragtune.settings.training import SHORT_NAMES, Training, read_options
from ragtune.training.arguments import RagTrainingArguments
from ragtune.training.lora import copy_with_adapter
from ragtune.training.methods.federated import Federated
from ragtune.training.trained import frozen_parts

_NEEDED = ("model", "parameters", "output")
_LENGTHS = ("max_question_tokens", "max_answer_tokens")  # of the sites' tokenised pairs, which the model has to know

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds, and leave `rounds/`, `tensorboard/` and `model/` in the output folder.

    The same start again resumes behind the last whole round; one at a time writes into an output folder, since a
    ServerApp may outlive its SuperLink, and go on with the next one.

    Raises:
        RagtuneError: with the way out.
    """
    config = {name: str(context.run_config.get(name, "")) for name in _NEEDED}
    if missing := [name for name in _NEEDED if not config[name]]:
        raise ParameterError(f"flwr run: {missing[0]} is missing; give --run-config '{missing[0]}=\"…\"'")
    output = Path(config["output"])
    with locked(output / ".federation.lock"):
        serve(grid, config["model"], read_parameters(config["parameters"]), output)


def serve(grid: Grid, model: str, parameters: Mapping[str, Any], output: Path) -> None:
    """As `main`, by a grid, with the settings of training.

    Args:
        grid: Flower's, to the sites.
        model: folder of the base model.
        parameters: from `read_parameters`.
        output: folder for all that the server leaves.
    """
    lengths = {name: parameters[name] for name in _LENGTHS if name in parameters}
    args = RagTrainingArguments(**{name: parameters[name] for name in parameters.keys() - lengths}, report_to="none")
    method = args.make_method()
    assert isinstance(method, Federated)
    description, start = read_description(model), _start(model, args, output)
    names = travelling(start, method.options.average, method.trains - frozen_parts(args))
    keeps_best = bool(args.load_best_model_at_end)
    metric = str(args.metric_for_best_model)
    plan = Plan(method.options, _given(args, parameters), metric, keeps_best, output / "rounds")
    with closing(Curves(output / "tensorboard")) as curves:
        best, history = federate(grid, plan, read_weights(start, names), curves.add)
    lineage = description["lineage"] | {"parameters": {"method": "federated", **parameters}}
    with atomic_path(output / "model") as folder:
        write_outcome(folder, start, plan, best, history, lineage, args, lengths)


def read_parameters(path: str) -> dict[str, Any]:
    """The settings of training and of the model in a parameter file; those of the pipeline's other boxes do not count.

    Raises:
        ParameterError: it cannot be read, its method is not federated, or a length is none.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ParameterError(
            f"{path}: cannot be read as YAML ({error}); give a file such as params/federated.yaml"
        ) from error
    if not isinstance(values, dict) or values.get("method") != "federated":
        raise ParameterError(f"{path}: no method: federated in it; see params/federated.yaml for one")
    known = {*settings_of(Training), *SHORT_NAMES}
    own = {SHORT_NAMES.get(str(name), str(name)): value for name, value in values.items() if name in known}
    options = read_options(values.get("training_options") or {})
    own |= read_values(path, settings_of(Models), {name: values[name] for name in _LENGTHS if name in values})
    return own | {SHORT_NAMES.get(name, name): value for name, value in options.items()}


def _given(args: RagTrainingArguments, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that were given, and those that the rounds divide; the others are the sites' defaults."""
    shared = shared_settings(args.to_dict())
    needed = {"learning_rate", "lr_scheduler_type", "max_steps", "seed"}
    return {name: value for name, value in shared.items() if name in needed | parameters.keys()}


def _start(model: str, args: RagTrainingArguments, output: Path) -> Path:
    """The base model's folder, or a copy with the adapter that lora_rank asks for."""
    folder = Path(model)
    if not args.lora_rank or (folder / "generator" / "adapter").is_dir():
        return folder
    start = output / "start"
    if not start.is_dir():
        copy_with_adapter(folder, start, args, trust=False)
    return start
