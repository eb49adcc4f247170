from dataclasses import dataclass

import pytest

from ragtune.training.methods.base import Method, NoOptions


class Small(Method):
    trains = frozenset({"question_encoder"})
    uses = frozenset({"generator"})

    def inputs(self, batch, found, tokens):
        return {}

    def loss(self, parts, inputs, step):
        raise NotImplementedError


@dataclass
class Options:
    size: int = 3


def test_options_are_the_defaults_where_none_are_given():
    assert Small().options == NoOptions()
    kind = type("WithOptions", (Small,), {"options_class": Options})
    assert kind().options == Options(3) and kind(Options(5)).options.size == 5


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({}, {"question_encoder", "generator"}),
        ({"trains": frozenset({"generator"})}, {"question_encoder", "generator"}),  # which searches
        ({"trains": frozenset({"generator"}), "needs_search": False}, {"generator"}),
    ],
)
def test_the_parts_are_those_that_learn_are_used_or_search(settings, parts):
    assert type("Changed", (Small,), settings)().parts == parts


def test_the_base_is_refreshed_where_the_passage_encoder_learns():
    assert not Small().refreshes
    assert type("Changed", (Small,), {"trains": frozenset({"passage_encoder"})})().refreshes


def test_only_turns_leave_weights_unused():
    assert not Small().leaves_unused and Small().trains_at(7) == Small.trains
    turns = type("Turns", (Small,), {"trains_at": lambda self, step: frozenset()})
    assert turns().leaves_unused


def test_as_many_passages_as_the_model_takes_and_no_callbacks():
    assert Small().n_retrieved(5) == 5 and Small().callbacks(None) == []
