"""One setting: a dataclass field with a help text, whose annotation may carry bounds: `Annotated[int, Range(1)]`.

The bounds are in the annotation because transformers' command-line parser takes every key of a field's metadata for an
argument of its own.
"""

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from types import UnionType
from typing import Annotated, Any, Protocol, Union, get_args, get_origin, get_type_hints

from ragtune.errors import ParameterError


class Bound(Protocol):
    """The values that a setting may have; as text, the end of "must be …"."""

    def allows(self, value: Any) -> bool:
        """Return True for a value within the bounds."""


@dataclass(frozen=True)
class Range:
    """Numbers from `least` to `most`, or beyond `above` and `below`, which are not allowed themselves."""

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None

    def allows(self, value: Any) -> bool:
        """Return True for a number in the range; never for NaN."""
        return (
            (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        limits = {"at least": self.least, "greater than": self.above, "at most": self.most, "below": self.below}
        return " and ".join(f"{words} {limit}" for words, limit in limits.items() if limit is not None)


@dataclass(frozen=True)
class OneOf:
    """One of a few texts."""

    choices: tuple[str, ...]

    def allows(self, value: Any) -> bool:
        """Return True for one of the choices."""
        return value in self.choices

    def __str__(self) -> str:
        return f"one of {', '.join(self.choices)}"


@dataclass(frozen=True)
class Like:
    """A text that matches a pattern whole; `what` describes it to the user."""

    pattern: str
    what: str

    def allows(self, value: Any) -> bool:
        """Return True for a match."""
        return re.fullmatch(self.pattern, value) is not None

    def __str__(self) -> str:
        return self.what


GIVEN = Like(r"(?s).*\S.*", "given, not empty")


@dataclass(frozen=True)
class Setting:
    """A setting as its field declares it. `default` is `dataclasses.MISSING` where a value is needed."""

    name: str
    kind: type
    default: Any
    help: str
    bound: Bound | None

    def check(self, value: Any, name: str = "") -> None:
        """Raise ParameterError for a value out of bounds, called `name` if it was given by another name."""
        shown = f"{name or self.name}={value!r}"
        if isinstance(value, float) and not math.isfinite(value):
            raise ParameterError(f"{shown}: must be a finite number")
        if self.bound is not None and not self.bound.allows(value):
            raise ParameterError(f"{shown}: must be {self.bound}")


def setting(default: Any, help_: str) -> Any:
    """A dataclass field with a default and a help text; an empty dict or list is made for each instance."""
    if default in ({}, []):
        return field(default_factory=type(default), metadata={"help": help_})
    return field(default=default, metadata={"help": help_})


def needed(help_: str) -> Any:
    """A dataclass field without a default."""
    return field(metadata={"help": help_})


def settings_of(*classes: type) -> dict[str, Setting]:
    """The settings that dataclasses declare, by name, in their order."""
    found = {}
    for class_ in classes:
        hints = get_type_hints(class_, include_extras=True)
        for each in fields(class_):
            default = each.default if each.default_factory is MISSING else each.default_factory()
            kind, bound = _read_annotation(hints[each.name])
            found[each.name] = Setting(each.name, kind, default, each.metadata.get("help", ""), bound)
    return found


def read_value(kind: type, value: Any) -> Any:
    """A value as YAML, JSON or a command line gives it, as `kind`: 3e-5 may come as text, and 5 as 5.0.

    Raises:
        ValueError: it is of another type.
    """
    if kind in (int, float) and isinstance(value, str | int | float) and not isinstance(value, bool):
        number = value if kind is int and isinstance(value, int) else float(value)
        if kind is float or (isinstance(number, int) or number.is_integer()):
            return kind(number)
    if isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool):
        return value
    raise ValueError(f"not a value of type {kind.__name__}")


def unknown(name: str, known: Iterable[str]) -> str:
    """A hint for a name that does not exist: the nearest one, or all there are."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}" if known else "there are none"


def check(settings: Mapping[str, Setting], values: Mapping[str, Any]) -> None:
    """Hold values against the bounds of `settings`; None, and names that are no settings, are passed over.

    Raises:
        ParameterError: a value is out of its bounds.
    """
    for name, value in values.items():
        if name in settings and value is not None:
            settings[name].check(value, name)


def read_values(place: str, settings: Mapping[str, Setting], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a mapping such as `training_options`, each of its setting's type and within its bounds.

    Raises:
        ParameterError: there is no such setting, or its value is of another type or out of its bounds.
    """
    read = {}
    for name, value in values.items():
        if name not in settings:
            raise ParameterError(f"{place}: no {name}; {unknown(name, settings)}")
        kind = settings[name].kind
        try:
            read[name] = read_value(kind, value)
        except ValueError:
            raise ParameterError(f"{place}: {name}={value!r} is not a value of type {kind.__name__}") from None
        settings[name].check(read[name], f"{place}: {name}")
    return read


def _read_annotation(hint: Any) -> tuple[type, Bound | None]:
    bound = None
    if get_origin(hint) is Annotated:
        hint, bound = get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        hint = get_args(hint)[0]  # X | None
    return get_origin(hint) or hint, bound
