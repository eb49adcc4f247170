import pytest

from ragtune.errors import TrainingError
from ragtune.training.arguments import RagTrainingArguments
from ragtune.training.telemetry import reporting
from ragtune.training.telemetry.reporting import integrations


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("tensorboard", ["tensorboard"]),
        ("tensorboard, mlflow,tensorboard", ["tensorboard", "mlflow"]),
        ('["mlflow", "tensorboard"]', ["mlflow", "tensorboard"]),
        (["mlflow"], ["mlflow"]),
        ("none", []),
        ("", []),
        (None, []),
    ],
)
def test_several_integrations_are_named_at_once(given, names):
    assert integrations(given) == names
    assert RagTrainingArguments(output_dir="run", report_to=given).report_to == names


@pytest.mark.parametrize(
    ("name", "package"), [("wandb", "wandb"), ("comet_ml", "comet-ml"), ("azure_ml", "azureml-core")]
)
def test_what_is_not_installed_is_refused_before_training_by_its_packages_name(name, package, monkeypatch):
    monkeypatch.setattr(reporting, "find_spec", lambda module: None if module != "tensorboard" else True)
    with pytest.raises(TrainingError, match=f"report_to={name}: takes the package {package}, .* pip install {package}"):
        RagTrainingArguments(output_dir="run", report_to=f"tensorboard,{name}")


def test_an_unknown_one_is_refused_with_those_that_there_are():
    with pytest.raises(TrainingError, match=r"report_to=tensorbord: must be none, or some of .*tensorboard.*wandb"):
        integrations("tensorbord")


def test_each_integration_of_transformers_is_known_and_reaches_the_trainer(make_trainer):
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    by_itself = {"kubeflow"}  # in a TrainJob, whatever is asked for
    assert set(reporting._PACKAGES) == set(INTEGRATION_TO_CALLBACK) - by_itself
    trainer = make_trainer(max_steps=1, n_docs=3, temperature=0.05, report_to="tensorboard,mlflow")
    kinds = {type(callback) for callback in trainer.callback_handler.callbacks}
    assert {INTEGRATION_TO_CALLBACK[name] for name in ("tensorboard", "mlflow")} <= kinds
