"""A setting stands once: pipeline, components, library and model have the names, types and defaults of the settings."""

import importlib
import inspect
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from docstring_parser import parse

from pipeline import rag_finetuning
from ragtune.evaluation.evaluate import evaluate
from ragtune.knowledge.split_corpus import split_passages
from ragtune.knowledge.workspace import ingest_into_workspace
from ragtune.models.rag import RagConfig
from ragtune.questions.answerability import split_by_answerability
from ragtune.questions.filtering import filter_questions
from ragtune.questions.tokenization import tokenize_pairs
from ragtune.registry.mlflow import register
from ragtune.settings.pipeline import PARAMETERS, PHASES, name_here, names_in_kfp
from ragtune.settings.training import OPTIONS
from ragtune.training.launchers import LAUNCHERS

ROOT = Path(__file__).parents[2]
NEEDED = inspect.Parameter.empty
BOXES = sorted(path.stem for path in (ROOT / "components").glob("[a-z]*.py"))
OTHER_NAMES = {  # where the name is taken by an output
    ("ingest_passages", "name"): "knowledge_base",
}
MODELS = ("question_encoder", "passage_encoder", "generator")
OTHER_INPUTS = {f"{name}_fingerprint" for name in ("questions", "corpus", *MODELS)} | {
    "model_folder",
    "run",
    "run_key",
    "run_id",
    "status",
    "kubernetes_config",
}


def parameters(function):
    return inspect.signature(function).parameters


def test_the_pipeline_has_every_setting_with_its_type_and_default():
    declared = {name_here(name): parameter for name, parameter in parameters(rag_finetuning.pipeline_func).items()}
    assert set(declared) == set(PARAMETERS)
    for name, parameter in declared.items():
        assert parameter.annotation is PARAMETERS[name].kind, name
        if parameter.default is not NEEDED:
            assert parameter.default == PARAMETERS[name].default, name


def test_the_launchers_are_those_of_training():
    assert PARAMETERS["launcher"].bound.choices == tuple(LAUNCHERS)


def test_the_user_interface_tells_every_help_text():
    told = {each.arg_name: each.description for each in parse(rag_finetuning.pipeline_func.__doc__).params}
    assert told == names_in_kfp({name: f"{setting.help}." for name, setting in PARAMETERS.items()})


def test_in_kfp_the_parameters_of_a_phase_stand_together():
    declared = sorted(parameters(rag_finetuning.pipeline_func))
    words = [name.split("_")[0] for name in declared]
    phases = [word for place, word in enumerate(words) if word not in words[:place]]
    assert sorted(phases) == sorted({*PHASES.values(), "training"})  # training_options begins with its phase as it is
    for word in PHASES.values():
        places = [place for place, name in enumerate(declared) if name.startswith(word)]
        assert places == list(range(places[0], places[-1] + 1))


def test_every_name_in_kfp_leads_back_to_its_own_parameter():
    assert [name_here(name) for name in names_in_kfp(PARAMETERS)] == list(PARAMETERS)
    assert names_in_kfp({"max_steps": 1, "foreign": 2}) == {"train_max_steps": 1, "foreign": 2}


@pytest.mark.parametrize("box", BOXES)
def test_a_box_takes_settings_by_their_names_with_their_types_and_defaults(box):
    component = getattr(importlib.import_module(f"components.{box}"), box)
    inputs = component.component_spec.inputs or {}
    for name, parameter in parameters(component.python_func).items():
        if name in inputs and name not in OTHER_INPUTS and isinstance(parameter.annotation, type):
            setting = PARAMETERS[OTHER_NAMES.get((box, name), name)]
            assert parameter.annotation is setting.kind, name
            assert parameter.default in (NEEDED, setting.default), name
    assert not parse(component.python_func.__doc__).params, "help texts stand in ragtune/settings/"


@pytest.mark.parametrize(
    ("function", "other_names"),
    [
        (filter_questions, {"layout": "question_layout"}),
        (split_passages, {"max_words": "max_passage_words"}),
        (ingest_into_workspace, {}),
        (split_by_answerability, {"k": "answerable_k", "batch_size": "of searches"}),
        (tokenize_pairs, {"max_rejected_fraction": "of what the tokenizer loses"}),
        (evaluate, {}),
        (register, {"min_questions": "min_test_questions", "workspace": "or none", "knowledge_base": "a folder"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_function_behind_a_box_has_the_same_defaults(function, other_names):
    shared = 0
    for name, parameter in parameters(function).items():
        setting = PARAMETERS.get(other_names.get(name, name))
        if setting is not None and parameter.default is not NEEDED:
            assert parameter.default == setting.default, name
            shared += 1
    assert shared


def test_a_model_without_settings_of_its_own_has_the_same_defaults():
    ours = {field.name: field.default for field in fields(RagConfig) if field.name != "marginalization"}
    assert ours == {name: (PARAMETERS | OPTIONS)[name].default for name in ours}


def test_settings_are_checked_where_there_is_no_torch():
    code = "import ragtune.kubeflow.parameters, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
