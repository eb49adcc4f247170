from dataclasses import dataclass
from typing import Annotated

import pytest

from ragtune.errors import ParameterError, TrainingError
from ragtune.settings.setting import Range, setting
from ragtune.training.arguments import RagTrainingArguments
from ragtune.training.methods import METHODS
from ragtune.training.methods.options import make_method, parse_options
from ragtune.training.methods.rag import Rag
from ragtune.training.rules import check_training


@dataclass(frozen=True)
class Options:
    margin: Annotated[float, Range(above=0, most=1)] = setting(0.95, "cosine from which a negative counts as one")
    negatives: int = 4
    symmetric: bool = False
    form: str = "atlas"

    def __post_init__(self):
        if self.symmetric and self.form == "plain":
            raise TrainingError("method_options: symmetric goes with form=atlas only")


class WithOptions(Rag):
    """As `Rag`, with settings of its own."""

    options_class = Options


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setitem(METHODS, "tuned", WithOptions)


def test_options_that_are_not_given_keep_their_defaults():
    assert make_method("tuned", {"margin": 0.5}).options == Options(margin=0.5)
    assert make_method("tuned").options == Options()


def test_numbers_may_come_as_yaml_and_json_write_them():
    options = make_method("tuned", {"margin": "1e-1", "negatives": 5.0}).options
    assert (options.margin, repr(options.negatives)) == (0.1, "5")


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"margine": 0.5}, "method_options of tuned: no margine; did you mean margin?"),
        ({"refresh": 1}, "method_options of tuned: no refresh; there are: margin, negatives, symmetric, form"),
        ({"negatives": 2.5}, "negatives=2.5 is not a value of type int"),
        ({"negatives": "many"}, "negatives='many' is not a value of type int"),
        ({"symmetric": 1}, "symmetric=1 is not a value of type bool"),
        ({"form": 3}, "form=3 is not a value of type str"),
        ({"margin": 2}, "margin=2.0: must be greater than 0 and at most 1"),
    ],
)
def test_an_impossible_option_is_named_before_anything_is_loaded(given, complaint):
    with pytest.raises(ParameterError) as raised:
        check_training({"method": "tuned", "method_options": given})
    assert complaint in str(raised.value)


def test_options_that_do_not_go_together_are_the_methods_own_to_refuse():
    with pytest.raises(TrainingError, match="symmetric goes with form=atlas only"):
        check_training({"method": "tuned", "method_options": {"symmetric": True, "form": "plain"}})


def test_a_method_without_options_has_none():
    with pytest.raises(ParameterError, match="method_options of rag: no margin; there are none"):
        check_training({"method": "rag", "method_options": {"margin": 1}})


def test_a_command_line_gives_json():
    args = RagTrainingArguments(output_dir="run", method="tuned", method_options='{"negatives": 7}')
    assert args.make_method().options.negatives == 7
    with pytest.raises(TrainingError, match="cannot be read as JSON"):
        parse_options("{margin")
    with pytest.raises(TrainingError, match="must be a mapping"):
        parse_options("[1]")
