import re
from collections import Counter

import pytest

from ragtune.sample.facts import read_subjects

SUBJECTS = read_subjects()


def values(kind: str, relation: str) -> list[str]:
    return [subject.facts[relation] for subject in SUBJECTS if subject.kind == kind and relation in subject.facts]


def test_there_are_as_many_subjects_as_there_should_be():
    counts = Counter(subject.kind for subject in SUBJECTS)
    assert counts["element"] == 118
    assert counts["state"] == 50
    assert 170 <= counts["country"] <= 193  # at most the members of the United Nations


def test_names_are_unique_over_all_kinds():
    assert Counter(subject.name for subject in SUBJECTS).most_common(1)[0][1] == 1


def test_atomic_numbers_are_1_to_118_in_order():
    assert values("element", "atomic number") == [str(number) for number in range(1, 119)]


@pytest.mark.parametrize(
    ("kind", "relation"),
    [
        ("country", "capital"),
        ("country", "iso code"),
        ("country", "calling code"),
        ("element", "symbol"),
        ("state", "capital"),
        ("state", "nickname"),
        ("state", "postal code"),
    ],
)
def test_what_tells_subjects_apart_is_unique(kind, relation):
    assert Counter(values(kind, relation)).most_common(1)[0][1] == 1


@pytest.mark.parametrize(
    ("kind", "relation", "shape"),
    [
        ("country", "iso code", "[A-Z]{2}"),
        ("country", "calling code", r"\+[2-9]\d{1,2}"),
        ("element", "symbol", "[A-Z][a-z]?"),
        ("element", "discovery year", r"1[6-9]\d\d|20[01]\d"),
        ("state", "postal code", "[A-Z]{2}"),
        ("state", "statehood", r"17(8[7-9]|9\d)|18\d\d|19(07|12|59)"),
    ],
)
def test_codes_and_years_have_their_shape(kind, relation, shape):
    for value in values(kind, relation):
        assert re.fullmatch(shape, value), value


@pytest.mark.parametrize("relation", ["continent", "family"])
def test_classes_are_few(relation):
    kind = "country" if relation == "continent" else "element"
    assert len(set(values(kind, relation))) <= 12


def test_calling_codes_lie_in_their_continent_s_zone():
    zones = {
        "Africa": "2",
        "Europe": "34",
        "North America": "5",
        "South America": "5",
        "Asia": "689",
        "Oceania": "6",
    }
    for subject in SUBJECTS:
        if {"calling code", "continent"} <= subject.facts.keys():
            assert subject.facts["calling code"][1] in zones[subject.facts["continent"]], subject


def test_no_fact_is_long_or_padded():
    for subject in SUBJECTS:
        for value in subject.facts.values():
            assert value == value.strip()
            assert len(value.split()) <= 5
