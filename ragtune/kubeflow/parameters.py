"""A run's parameters: from a YAML file and the command line, checked against what the pipeline declares."""

import contextlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from ragtune.errors import ParameterError
from ragtune.knowledge.address import check_milvus_uri, check_name
from ragtune.knowledge.index import check_index
from ragtune.kubeflow.nodes import check_nodes, check_volume
from ragtune.models.prompt import check_prompt
from ragtune.questions.delimited import check_quoting
from ragtune.questions.filtering import check_shares
from ragtune.questions.nq import check_layout
from ragtune.questions.splits import check_split_by
from ragtune.registry.connection import check_tracking_uri
from ragtune.registry.kubeflow import check_url
from ragtune.registry.mlflow import check_name as check_model_name
from ragtune.registry.promotion import check_promotion
from ragtune.settings.pipeline import PARAMETERS, name_here
from ragtune.settings.setting import check, read_value, unknown
from ragtune.settings.training import read_options
from ragtune.sources import check_no_secrets
from ragtune.training.methods.options import make_method, parse_options
from ragtune.training.rules import check_training


def read_parameters(pipeline: Callable[..., Any], file: str | Path, assignments: Iterable[str] = ()) -> dict[str, Any]:
    """The values for one run of `pipeline`: its file, overridden by `name=value` assignments.

    Args:
        pipeline: the pipeline's function; its signature says which parameters there are, and of what type.
        file: a YAML mapping of names to values. A name may be KFP's, too: `train_max_steps` for `max_steps`.
        assignments: such as "max_steps=200"; the last one of a name wins.

    Returns:
        Values by their names here (`name_here`): only what the file and the assignments name; every other parameter
        keeps the pipeline's default.

    Raises:
        ParameterError: no such file, no mapping of texts, an unknown name, a value of another type, or a
            required one absent.
    """
    declared = _declared(pipeline)
    values: dict[str, Any] = {}
    for given, value in _read_mapping(Path(file)).items():
        if not isinstance(given, str):
            raise ParameterError(f"{file}: the name {given!r} is of type {type(given).__name__}; names are texts")
        if name_here(given) in values:
            raise ParameterError(f"{file}: {given} and {name_here(given)} are one parameter; keep one line of the two")
        values[name_here(given)] = value
    values |= {name_here(given): value for given, value in map(_split, assignments)}
    for name in values:
        if name not in declared:
            raise ParameterError(f"{file}: no parameter is called {name}; {unknown(name, declared)}")
    absent = [name for name, p in declared.items() if p.default is inspect.Parameter.empty and name not in values]
    if absent:
        raise ParameterError(f"{file}: needs a value for {', '.join(absent)}; add it there, or --set {absent[0]}=…")
    return {name: _convert(name, value, declared[name].annotation) for name, value in values.items()}


def with_defaults(pipeline: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of all parameters of `pipeline` by their names here: those given, and the others' defaults."""
    return {name: values.get(name, parameter.default) for name, parameter in _declared(pipeline).items()}


def documented(pipeline: Callable[..., Any]) -> Callable[..., Any]:
    """Give a pipeline's docstring the help text of each of its parameters, for KFP's user interface."""
    lines = [f"    {name}: {PARAMETERS[name_here(name)].help}." for name in inspect.signature(pipeline).parameters]
    pipeline.__doc__ = "\n".join([inspect.getdoc(pipeline) or "", "", "Args:", *lines])
    return pipeline


def check_values(values: Mapping[str, Any]) -> None:
    """Refuse what a later box would refuse, hours later; nothing is opened.

    Args:
        values: of all parameters of the pipeline.

    Raises:
        ParameterError, QuestionError, KnowledgeBaseError, ModelError, TrainingError, RegistryError: a value is not
            possible, holds a secret, or does not go with another one.
    """
    check_no_secrets(values)
    check(PARAMETERS, values)
    _check_splits(values)
    check_split_by(values["split_by"])
    check_layout(values["question_layout"])
    check_quoting(values["quoting"])
    check_name(values["knowledge_base"])
    check_index(values["index"])
    if values["milvus_uri"]:
        check_milvus_uri(values["milvus_uri"])
    for name in values["training_options"]:
        if name in values:
            raise ParameterError(f"training_options: {name} is a parameter of the pipeline itself; give it as such")
    check_training({**values, **read_options(values["training_options"])})
    _check_strategy(values)
    check_volume(values)
    check_nodes(values)
    check_prompt(values["prompt"])
    check_model_name(values["model_name"])
    check_promotion(values["promote"])
    if values["tracking_uri"]:
        check_tracking_uri(values["tracking_uri"])
    if values["model_registry_url"]:
        check_url(values["model_registry_url"])


def check_installed(values: Mapping[str, Any]) -> None:
    """Refuse what this environment lacks a package for, where all boxes of a run are to run in it.

    Args:
        values: of all parameters of the pipeline.

    Raises:
        ParameterError: with the extra that brings it.
    """
    for asked, setting, module, extra in (
        (values["method"] == "federated", "method=federated", "flwr", "federated"),
        (values["method"] == "retriever", "method=retriever", "sentence_transformers", "retriever"),
        (values["retrieval"] == "ray", "retrieval=ray", "ray", "ray"),
        (values["embed_on"] == "ray", "embed_on=ray", "ray", "ray"),
        (read_options(values["training_options"]).get("lora_rank"), "lora_rank", "peft", "lora"),
    ):
        if asked and find_spec(module) is None:
            raise ParameterError(f"{setting} needs {module}, which is not installed: pip install 'ragtune[{extra}]'")


def _check_strategy(values: Mapping[str, Any]) -> None:
    """Refuse a strategy that Flower does not have; where there is no Flower, as in the data image, training does."""
    if values["method"] == "federated" and find_spec("flwr"):
        from ragtune.federation.strategies import make_strategy

        options = make_method("federated", parse_options(values["method_options"])).options
        make_strategy(options.strategy, options.strategy_options, options.min_sites)


def _declared(pipeline: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    return {name_here(name): parameter for name, parameter in inspect.signature(pipeline).parameters.items()}


def _check_splits(values: Mapping[str, Any]) -> None:
    shares = {
        split: values[f"{split}_fraction"] for split in ("validation", "test") if not values[f"{split}_questions"]
    }
    check_shares(shares)
    for split, share in shares.items():
        if share == 0:
            raise ParameterError(f"{split}_fraction=0: leaves no {split} questions; give more, or {split}_questions")


def _read_mapping(file: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParameterError(f"{file}: no such parameter file; ready ones are in params/") from None
    except OSError as error:
        raise ParameterError(f"{file}: cannot be read ({error.strerror}); give a YAML file, see params/") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ParameterError(f"{file}: not YAML: {error}") from error
    if not isinstance(values, dict):
        raise ParameterError(f"{file}: lines of `name: value` are needed")
    return values


def _split(assignment: str) -> tuple[str, str]:
    name, equals, value = assignment.partition("=")
    if not equals:
        raise ParameterError(f"--set {assignment}: write it as --set name=value")
    return name.strip().replace("-", "_"), value


def _convert(name: str, value: Any, kind: type) -> Any:
    if kind in (dict, list):
        with contextlib.suppress(yaml.YAMLError):
            value = yaml.safe_load(value) if isinstance(value, str) else value
        if kind is list and isinstance(value, list):
            return value
        if kind is list:
            raise ParameterError(f'parameter {name}: {value!r} is no list, such as [{{"key": "value"}}]')
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise ParameterError(f'parameter {name}: {value!r} is no mapping of names, such as {{"name": "value"}}')
        return value
    if isinstance(value, str) and value.encode("utf-8", "replace").decode() != value:
        raise ParameterError(
            f"parameter {name}: {value} is not UTF-8; rename the file, or give the folder that it is in"
        )
    try:
        if kind is str and isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)  # as YAML reads a text of digits
        return read_value(kind, value)
    except ValueError:
        raise ParameterError(f"parameter {name}: {value!r} is not a value of type {kind.__name__}") from None
