"""`method_options`: the settings that one method alone knows, checked against its own dataclass."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_type_hints

from ragtune.errors import TrainingError
from ragtune.training.methods import METHODS
from ragtune.training.methods.base import Method


def make_method(name: str, options: Mapping[str, Any] | None = None) -> Method:
    """A method with its settings.

    Args:
        name: one of `METHODS`.
        options: by the names of the fields of its `options_class`; the others keep their defaults. Numbers may come as
            YAML and JSON write them: "3e-5" for a float, 5.0 for an int.

    Raises:
        TrainingError: there is no such method or option, or a value of another type or out of range.
    """
    if name not in METHODS:
        raise TrainingError(f"method={name!r}: must be one of {', '.join(METHODS)}")
    kind = METHODS[name].options_class
    known, types = {field.name for field in fields(kind)}, get_type_hints(kind)
    values = {}
    for option, value in (options or {}).items():
        if option not in known:
            near = difflib.get_close_matches(option, known, n=1)
            there = f"there are: {', '.join(sorted(known))}" if known else "it has none"
            raise TrainingError(
                f"method_options: {name} has no option {option}; " + (f"did you mean {near[0]}?" if near else there)
            )
        values[option] = _converted(f"method_options: {option}={value!r}", value, types[option])
    return METHODS[name](kind(**values))


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


def _converted(place: str, value: Any, kind: Any) -> Any:
    if kind in (int, float) and not isinstance(value, bool):
        try:
            number = float(value)
        except (TypeError, ValueError) as error:
            raise TrainingError(f"{place}: must be a number") from error
        if kind is int and not number.is_integer():
            raise TrainingError(f"{place}: must be a whole number")
        return kind(number)
    if isinstance(kind, type) and not isinstance(value, kind):
        raise TrainingError(f"{place}: must be of type {kind.__name__}")
    return value
