from dataclasses import MISSING, fields
from typing import get_type_hints

import pytest
from transformers import HfArgumentParser, TrainingArguments

from ragtune.errors import ParameterError
from ragtune.settings.pipeline import PARAMETERS
from ragtune.settings.setting import settings_of
from ragtune.settings.training import OPTIONS, SHORT_NAMES, TrainerOptions, Training, TrainingOptions, read_options
from ragtune.training.arguments import RagTrainingArguments

ARGUMENTS = {field.name: field for field in fields(RagTrainingArguments) if field.init}
OWN_FIELDS = {  # in arguments.py, for a reason of their own
    "tensorboard_folder": "the pipeline gives it",
    "per_device_train_batch_size": "short batch_size, a parameter of the pipeline",
    "logging_nan_inf_filter": "must stay",
    "greater_is_better": "must stay",
    "remove_unused_columns": "must stay",
}
# None where they are not given:
OF_THE_BASE_MODEL = {"n_docs", "temperature", "prompt", "chat_template", "max_input_tokens"}


def default(field):
    return field.default if field.default_factory is MISSING else field.default_factory()


def test_every_setting_of_training_is_an_argument_of_that_type_default_and_help():
    hints = get_type_hints(RagTrainingArguments)
    for name, setting in settings_of(Training, TrainingOptions, TrainerOptions).items():
        assert setting.kind.__name__ in str(hints[name]), name
        if name in OF_THE_BASE_MODEL:
            assert ARGUMENTS[name].default is None
        elif name != "method_options":  # which a command line gives as JSON
            assert default(ARGUMENTS[name]) == setting.default, name
        assert ARGUMENTS[name].metadata["help"].startswith(setting.help), name
    assert ARGUMENTS["per_device_train_batch_size"].default == PARAMETERS["batch_size"].default


def test_no_argument_of_our_own_is_without_a_setting():
    own = set(ARGUMENTS) - {field.name for field in fields(TrainingArguments)}
    assert own | set(RagTrainingArguments.__annotations__) <= set(settings_of(Training, TrainingOptions)) | set(
        OWN_FIELDS
    )


def test_options_of_trainer_are_its_own_with_its_own_defaults():
    theirs = {field.name: field for field in fields(TrainingArguments)}
    for name, setting in settings_of(TrainerOptions).items():
        assert setting.default == theirs[name].default, name


def test_an_option_is_no_parameter_of_the_pipeline():
    assert not set(OPTIONS) & set(PARAMETERS)


def test_the_command_line_tells_the_help_texts():
    told = " ".join(HfArgumentParser(RagTrainingArguments).format_help().split())
    assert "passages retrieved per question; the base model's own if not given" in told
    assert "steps until the learning rate peaks; a number below 1 is a share of all steps (default: 0.05)" in told


def test_numbers_become_numbers_and_short_names_are_known():
    options = read_options({"max_eval_questions": 20.0, "weight_decay": "1e-2", "eval_batch_size": 4})
    assert options == {"max_eval_questions": 20, "weight_decay": 0.01, "eval_batch_size": 4}
    assert type(options["max_eval_questions"]) is int


def test_a_short_name_has_the_bounds_of_the_long_one():
    assert OPTIONS["eval_batch_size"] is OPTIONS[SHORT_NAMES["eval_batch_size"]]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("max_eval_questions", 1.5, "max_eval_questions=1.5 is not a value of type int"),
        ("eval_batch_size", 0, "training_options: eval_batch_size=0: must be at least 1"),
        ("torch_compile", 1, "torch_compile=1 is not a value of type bool"),
        ("eval_batch_sizes", 1, "no eval_batch_sizes; did you mean eval_batch_size?"),
        ("tensorboard_folder", "x", "training_options: no tensorboard_folder"),
    ],
)
def test_another_option_type_or_value_is_refused(name, value, message):
    with pytest.raises(ParameterError) as raised:
        read_options({name: value})
    assert message in str(raised.value)
