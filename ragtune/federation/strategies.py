"""Flower's strategies by name, and the state that some of them keep from round to round."""

import inspect
from collections.abc import Mapping
from typing import Any

import flwr.serverapp.strategy as flower
import numpy as np
from flwr.serverapp.strategy import Strategy

from ragtune.errors import TrainingError
from ragtune.settings.setting import unknown

# Strategies that need code of their own at the sites, which ragtune's do not have.
_NOT_POSSIBLE = {
    "FedXgbBagging": "averages trees, not weights",
    "FedXgbCyclic": "passes on trees, not weights",
    "DifferentialPrivacyClientSideAdaptiveClipping": "has the sites clip; take DifferentialPrivacyServerSide…",
    "DifferentialPrivacyClientSideFixedClipping": "has the sites clip; take DifferentialPrivacyServerSide…",
}
_KNOWN = {
    name: kind
    for name in flower.__all__
    if inspect.isclass(kind := getattr(flower, name)) and issubclass(kind, Strategy) and kind is not Strategy
}


def make_strategy(name: str, options: Mapping[str, Any], min_sites: int) -> Strategy:
    """A strategy of `flwr.serverapp.strategy`.

    Args:
        name: of its class, such as FedAvg, FedProx, FedAdam, FedMedian, Krum.
        options: its arguments; `strategy` of one that wraps another is that one's name, FedAvg if it is not given, or
            {"name": …, its arguments}.
        min_sites: fewest sites that train, for `min_train_nodes` where it is not given. Without the other two such
            arguments a strategy takes the sites that there are; Flower's own default is to wait for two, for ever.

    Raises:
        TrainingError: there is no such strategy, it takes no such arguments, or needs more than ragtune's sites do.
    """
    if name not in _KNOWN:
        raise TrainingError(f"strategy={name}: Flower has none of that name; {unknown(name, _KNOWN)}")
    if name in _NOT_POSSIBLE:
        raise TrainingError(f"strategy={name}: {_NOT_POSSIBLE[name]}")
    takes = inspect.signature(_KNOWN[name]).parameters
    least = {"min_train_nodes": min_sites, "min_evaluate_nodes": 0, "min_available_nodes": 0}
    arguments = {argument: value for argument, value in least.items() if argument in takes} | dict(options)
    if "strategy" in takes:
        inner = arguments.get("strategy", "FedAvg")
        inner = {"name": inner} if isinstance(inner, str) else dict(inner)
        arguments["strategy"] = make_strategy(inner.pop("name", "FedAvg"), inner, min_sites)
    if strange := sorted(arguments.keys() - takes.keys()):
        raise TrainingError(f"strategy_options: {name} takes no {strange[0]}; {unknown(strange[0], takes)}")
    try:
        return _KNOWN[name](**arguments)
    except (TypeError, ValueError) as error:
        raise TrainingError(f"strategy_options of {name}: {error}") from error


def state_of(strategy: Strategy) -> dict[str, np.ndarray]:
    """The arrays and numbers that a strategy keeps between rounds, such as FedAdam's moments, by name."""
    state: dict[str, np.ndarray] = {}
    for name, value in vars(strategy).items():
        if isinstance(value, Strategy):
            state |= {f"{name}>{inner}": array for inner, array in state_of(value).items()}
        elif isinstance(value, float):
            state[name] = np.array(value)
        elif isinstance(value, dict | list) and _holds_arrays(value):
            items = value.items() if isinstance(value, dict) else enumerate(value)
            state |= {f"{name}:{key}": np.ascontiguousarray(array) for key, array in items}
    return state


def restore(strategy: Strategy, state: Mapping[str, np.ndarray]) -> None:
    """Give a strategy the state that `state_of` read from another one of its kind."""
    inner: dict[str, dict[str, np.ndarray]] = {}
    arrays: dict[str, dict[str, np.ndarray]] = {}
    for name, array in state.items():
        outer, nested, rest = name.partition(">")
        if nested:
            inner.setdefault(outer, {})[rest] = array
            continue
        attribute, many, key = name.partition(":")
        if many:
            arrays.setdefault(attribute, {})[key] = array
        else:
            setattr(strategy, attribute, float(array))
    for attribute, found in arrays.items():
        numbered = attribute in _LISTS
        setattr(strategy, attribute, [found[str(n)] for n in range(len(found))] if numbered else found)
    for attribute, found in inner.items():
        restore(getattr(strategy, attribute), found)


_LISTS = {"momentum_vector"}  # FedAvgM's, in the order of the weights


def _holds_arrays(value: dict | list) -> bool:
    values = list(value.values() if isinstance(value, dict) else value)
    return bool(values) and all(isinstance(each, np.ndarray) for each in values)
