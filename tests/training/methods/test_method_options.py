from dataclasses import dataclass

import pytest

from ragtune.errors import TrainingError
from ragtune.training.arguments import RagTrainingArguments
from ragtune.training.methods import METHODS
from ragtune.training.methods.options import make_method, parse_options
from ragtune.training.methods.rag import Rag
from ragtune.training.ranges import check_ranges


@dataclass(frozen=True)
class Options:
    margin: float = 0.95
    negatives: int = 4
    symmetric: bool = False
    form: str = "atlas"

    def __post_init__(self):
        if not 0 < self.margin <= 1:
            raise TrainingError(f"method_options: margin={self.margin}: must be above 0 and at most 1")


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
        ({"margine": 0.5}, "tuned has no option margine; did you mean margin?"),
        ({"refresh": 1}, "tuned has no option refresh; there are: form, margin, negatives, symmetric"),
        ({"negatives": 2.5}, "negatives=2.5: must be a whole number"),
        ({"negatives": "many"}, "negatives='many': must be a number"),
        ({"symmetric": 1}, "symmetric=1: must be of type bool"),
        ({"form": 3}, "form=3: must be of type str"),
        ({"margin": 2}, "margin=2.0: must be above 0 and at most 1"),
    ],
)
def test_an_impossible_option_is_named_before_anything_is_loaded(given, complaint):
    with pytest.raises(TrainingError) as raised:
        check_ranges({"method": "tuned", "method_options": given})
    assert complaint in str(raised.value)


def test_a_method_without_options_has_none():
    with pytest.raises(TrainingError, match="rag has no option margin; it has none"):
        check_ranges({"method": "rag", "method_options": {"margin": 1}})


def test_a_command_line_gives_json():
    args = RagTrainingArguments(output_dir="run", method="tuned", method_options='{"negatives": 7}')
    assert args.make_method().options.negatives == 7
    with pytest.raises(TrainingError, match="cannot be read as JSON"):
        parse_options("{margin")
    with pytest.raises(TrainingError, match="must be a mapping"):
        parse_options("[1]")
