"""`method_options`: the settings that one method alone knows, checked against its own dataclass."""

import json
from collections.abc import Mapping
from typing import Any

from ragtune.errors import TrainingError
from ragtune.settings.setting import read_values, settings_of
from ragtune.training.methods import METHODS
from ragtune.training.methods.base import Method


def make_method(name: str, options: Mapping[str, Any] | None = None) -> Method:
    """A method with its settings.

    Args:
        name: one of `METHODS`.
        options: by the names of the fields of its `options_class`; the others keep their defaults. Numbers may come as
            YAML and JSON write them: "3e-5" for a float, 5.0 for an int.

    Raises:
        TrainingError: there is no such method, or its options contradict each other.
        ParameterError: there is no such option, or its value is of another type or out of its bounds.
    """
    if name not in METHODS:
        raise TrainingError(f"method={name!r}: must be one of {', '.join(METHODS)}")
    kind = METHODS[name].options_class
    return METHODS[name](kind(**read_values(f"method_options of {name}", settings_of(kind), options or {})))


def parse_options(given: Any) -> dict[str, Any]:
    """`method_options` as a mapping; a command line gives JSON.

    Raises:
        TrainingError: it is none.
    """
    value = given or {}
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise TrainingError(f"method_options={given!r}: cannot be read as JSON ({error})") from error
    if not isinstance(value, Mapping):
        raise TrainingError(f'method_options={given!r}: must be a mapping, such as {{"name": 1}}')
    return dict(value)
