import inspect
from dataclasses import fields

import pytest

from pipeline import rag_finetuning
from ragtune.errors import TrainingError
from ragtune.training.arguments import RagTrainingArguments
from ragtune.training.options import TRAINING_OPTIONS, check_options
from ragtune.training.ranges import SHORT_NAMES

KNOWN = {field.name: field.type for field in fields(RagTrainingArguments) if field.init}
PARAMETERS = {SHORT_NAMES.get(name, name) for name in inspect.signature(rag_finetuning.pipeline_func).parameters}
GIVEN_BY_THE_PIPELINE = {"tensorboard_folder"}
MUST_STAY = {"remove_unused_columns", "logging_nan_inf_filter", "greater_is_better"}


def test_every_option_is_an_argument_of_training_of_that_type():
    for name, kind in TRAINING_OPTIONS.items():
        assert KNOWN[name] is kind or kind.__name__ in str(KNOWN[name]), name


def test_every_argument_of_our_own_is_an_option_or_a_parameter():
    own = set(RagTrainingArguments.__annotations__) & set(KNOWN)
    assert own <= set(TRAINING_OPTIONS) | PARAMETERS | GIVEN_BY_THE_PIPELINE | MUST_STAY
    assert not set(TRAINING_OPTIONS) & PARAMETERS


def test_numbers_become_numbers_and_short_names_are_known():
    options = check_options({"max_eval_questions": 20.0, "weight_decay": "1e-2", "eval_batch_size": 4})
    assert options == {"max_eval_questions": 20, "weight_decay": 0.01, "eval_batch_size": 4}
    assert type(options["max_eval_questions"]) is int


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("max_eval_questions", 1.5, "max_eval_questions=1.5 is not a value of type int"),
        ("max_eval_questions", True, "max_eval_questions=True is not a value of type int"),
        ("max_eval_questions", float("inf"), "max_eval_questions=inf is not a value of type int"),
        ("weight_decay", "much", "weight_decay='much' is not a value of type float"),
        ("torch_compile", 1, "torch_compile=1 is not a value of type bool"),
        ("eval_batch_sizes", 1, "eval_batch_sizes is none; did you mean eval_batch_size?"),
        ("tensorboard_folder", "x", "tensorboard_folder is none"),
    ],
)
def test_another_option_or_type_is_refused(name, value, message):
    with pytest.raises(TrainingError) as raised:
        check_options({name: value})
    assert message in str(raised.value)
