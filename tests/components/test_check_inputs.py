"""The first box, as an uploaded pipeline calls it: every parameter reaches it, and it refuses and hashes."""

import inspect
import shutil
from pathlib import Path

import pytest
import yaml
from kfp import local

from components.check_inputs import check_inputs
from pipeline import rag_finetuning
from ragtune.files import content_hash
from ragtune.kubeflow.parameters import read_parameters, with_defaults
from ragtune.registry.connection import connected
from ragtune.registry.start import PARTS
from ragtune.settings.pipeline import names_in_kfp
from ragtune.sources import fingerprint

ROOT = Path(__file__).parents[2]
DEMO = read_parameters(rag_finetuning.pipeline_func, ROOT / "params" / "demo.yaml")


def test_it_takes_every_parameter_of_the_pipeline_and_has_no_default_of_its_own():
    declared = inspect.signature(rag_finetuning.pipeline_func).parameters
    taken = inspect.signature(check_inputs.python_func).parameters
    assert names_in_kfp({name: parameter.annotation for name, parameter in taken.items()}) == {
        name: parameter.annotation for name, parameter in declared.items()
    }
    assert all(parameter.default is inspect.Parameter.empty for parameter in taken.values())


def test_the_compiled_pipeline_hands_it_all_of_them_and_no_box_begins_before_it():
    spec, _ = yaml.safe_load_all((ROOT / "compiled" / "rag_finetuning.yaml").read_text())
    groups = [part["dag"]["tasks"] for part in spec["components"].values() if "dag" in part]
    (tasks,) = (group for group in groups if "check-inputs" in group)
    inputs = tasks["check-inputs"]["inputs"]["parameters"]
    own = {name: inputs[name] for name in check_inputs.component_spec.inputs}  # beside those of its pod
    given = names_in_kfp({name: told["componentInputParameter"] for name, told in own.items()})
    assert given == {name: f"pipelinechannel--{name}" for name in spec["root"]["inputDefinitions"]["parameters"]}
    first = [name for name, task in tasks.items() if not task.get("dependentTasks")]
    assert first == ["check-inputs"]


@pytest.fixture
def values(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "boxes"))
    return with_defaults(rag_finetuning.pipeline_func, {**DEMO, "workspace": str(tmp_path)})


def test_it_hashes_the_sources_and_the_model_to_start_from(values, capfd):
    values["training_options"] = {"max_eval_questions": 20}  # arrives as 20.0
    outputs = check_inputs(**{**values, "start_from": "champion"}).outputs
    held_out = (values["validation_questions"], values["test_questions"])
    assert outputs["questions"] == fingerprint(values["questions"], *held_out)
    assert outputs["corpus"] == fingerprint(values["corpus"])
    assert outputs["passage_encoder_fingerprint"] == content_hash(values["passage_encoder"])
    assert [outputs[part] for part in PARTS] == [values[part] for part in PARTS]  # while there is no champion
    assert outputs["model_folder"] == ""
    assert 'training starts from the base model, as no version of "ragtune-demo" is' in capfd.readouterr().out


def test_where_no_volume_is_mounted_it_hands_on_where_the_registry_keeps_the_champion(
    values, log_model, tmp_path, monkeypatch
):
    values |= {"start_from": "champion", "workspace_volume": "", "tracking_uri": f"sqlite:///{tmp_path}/mlflow.db"}
    for part in PARTS:
        shutil.copytree(values[part], tmp_path / "model" / part)
    uri = log_model(tmp_path / "model", values["tracking_uri"])
    with connected(values["tracking_uri"]) as client:
        client.create_registered_model(values["model_name"])
        version = client.create_model_version(values["model_name"], uri)
        client.set_registered_model_alias(values["model_name"], "champion", version.version)
    for guard in ("ragtune.kubeflow.parameters.check_values", "ragtune.reachable.check_reachable"):
        monkeypatch.setattr(guard, lambda values: None)  # which ask for servers
    names = inspect.signature(check_inputs.python_func).return_annotation._fields
    outputs = dict(zip(names, check_inputs.python_func(**values), strict=True))
    assert outputs["model_folder"] == version.source
    assert [outputs[part] for part in PARTS] == [f"{version.source}/{part}" for part in PARTS]
    assert outputs["generator_fingerprint"] == content_hash(values["generator"])


def test_it_refuses_a_value(values, capfd):
    with pytest.raises(RuntimeError, match="FAILURE"):
        check_inputs(**{**values, "n_docs": 20_000})
    assert "n_docs=20000: must be at least 1 and at most 16384" in capfd.readouterr().out
