from dataclasses import MISSING, dataclass
from typing import Annotated

import pytest

from ragtune.errors import ParameterError
from ragtune.settings.setting import Like, OneOf, Range, Setting, needed, read_value, read_values, setting, settings_of


@dataclass
class Kitchen:
    """Of a restaurant."""

    recipe: str = needed("folder of the recipe")
    cooks: Annotated[int, Range(1, 9)] = setting(2, "cooks at work")
    salt: Annotated[float, Range(above=0, below=1)] = setting(0.1, "share of salt")
    oven: Annotated[str | None, OneOf(("gas", "wood"))] = setting(None, "fuel of the oven")
    extras: dict[str, int] = setting({}, "further ingredients")


SETTINGS = settings_of(Kitchen)


def test_a_field_declares_type_default_bound_and_help():
    assert SETTINGS["cooks"] == Setting("cooks", int, 2, "cooks at work", Range(1, 9))
    assert SETTINGS["oven"] == Setting("oven", str, None, "fuel of the oven", OneOf(("gas", "wood")))
    assert (SETTINGS["recipe"].default, SETTINGS["extras"].kind, SETTINGS["extras"].default) == (MISSING, dict, {})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("cooks", 0, "cooks=0: must be at least 1 and at most 9"),
        ("cooks", 10, "cooks=10: must be at least 1 and at most 9"),
        ("salt", 0.0, "salt=0.0: must be greater than 0 and below 1"),
        ("salt", 1.0, "salt=1.0: must be greater than 0 and below 1"),
        ("salt", float("nan"), "salt=nan: must be a finite number"),
        ("oven", "coal", "oven='coal': must be one of gas, wood"),
    ],
)
def test_a_value_out_of_bounds_is_told_with_what_is_allowed(name, value, message):
    with pytest.raises(ParameterError) as raised:
        SETTINGS[name].check(value)
    assert str(raised.value) == message


@pytest.mark.parametrize(("name", "value"), [("cooks", 1), ("cooks", 9), ("salt", 0.999), ("oven", "gas")])
def test_the_bounds_themselves_are_allowed(name, value):
    SETTINGS[name].check(value)


def test_a_pattern_matches_the_whole_text():
    assert Like("[a-z]+", "letters").allows("ab")
    assert not Like("[a-z]+", "letters").allows("ab1")


@pytest.mark.parametrize(
    ("kind", "given", "value"),
    [
        (float, "3e-5", 3e-5),
        (float, 5, 5.0),
        (int, 5.0, 5),
        (int, "5", 5),
        (int, 2**60 + 1, 2**60 + 1),
        (str, "5", "5"),
    ],
)
def test_numbers_are_read_as_yaml_and_json_write_them(kind, given, value):
    read = read_value(kind, given)
    assert (read, type(read)) == (value, kind)


@pytest.mark.parametrize(
    ("kind", "given"),
    [(int, 1.5), (int, True), (int, float("inf")), (int, "many"), (float, [1]), (bool, 1), (str, 5), (dict, "{}")],
)
def test_another_type_is_refused(kind, given):
    with pytest.raises(ValueError):
        read_value(kind, given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cook": 3}, "kitchen: no cook; did you mean cooks?"),
        ({"zzz": 3}, "kitchen: no zzz; there are: recipe, cooks, salt, oven, extras"),
        ({"cooks": 1.5}, "kitchen: cooks=1.5 is not a value of type int"),
        ({"cooks": 12}, "kitchen: cooks=12: must be at least 1 and at most 9"),
    ],
)
def test_a_mapping_is_refused_with_its_own_name(given, message):
    with pytest.raises(ParameterError) as raised:
        read_values("kitchen", SETTINGS, given)
    assert str(raised.value) == message


def test_a_mapping_comes_back_with_its_numbers_as_numbers():
    assert read_values("kitchen", SETTINGS, {"cooks": 3.0, "salt": "1e-1"}) == {"cooks": 3, "salt": 0.1}
