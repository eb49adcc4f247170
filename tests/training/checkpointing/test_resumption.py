"""A run that goes on from its own checkpoints with other memory, and from another run's with other parameters."""

import json

import pytest

from ragtune.errors import StorageError, TrainingError
from ragtune.training.arguments import RagTrainingArguments, RunFiles
from ragtune.training.checkpointing.resumption import INPUTS, only_run
from ragtune.training.run import run
from ragtune.training.trainer import RagTrainer

PARAMETERS = {"n_docs": 3, "temperature": 0.05, "learning_rate": 3e-3, "logging_steps": 1, "report_to": "none"}
PARAMETERS |= {"max_steps": 6, "eval_steps": 2, "save_steps": 2, "per_device_train_batch_size": 8}


@pytest.fixture
def files(still_world, still_knowledge_base, tmp_path):
    folders = {"output_folder": str(tmp_path / "model"), "work_folder": str(tmp_path / "work"), **still_world.parts}
    return RunFiles(dataset_folder=still_world.pairs, knowledge_base_folder=still_knowledge_base, **folders)


@pytest.fixture
def killed(files, monkeypatch, tmp_path):
    """Name of a run that died after its fourth step's checkpoint."""
    step = RagTrainer.training_step

    def die(self, *args, **kwargs):
        if self.state.global_step == 5:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(RagTrainer, "training_step", die)
        run(files, RagTrainingArguments(**PARAMETERS))
    (folder,) = (tmp_path / "work").glob("[!.]*")
    assert (folder / "rag" / "checkpoint-4").is_dir()
    return folder.name


def log(tmp_path):
    return json.loads((tmp_path / "model" / "training_log.json").read_text())


def test_a_run_that_follows_its_own_hint_on_memory_goes_on_where_it_was(files, killed, tmp_path, capfd):
    thrift = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "activation_checkpointing": True}
    thrift |= {"logging_steps": 2, "per_device_eval_batch_size": 4, "save_total_limit": 1}
    capfd.readouterr()
    assert run(files, RagTrainingArguments(**PARAMETERS | thrift))["steps"] == 6
    assert "resuming from step 4" in capfd.readouterr().err
    resumed = {point["step"]: point["loss"] for point in log(tmp_path) if "loss" in point}
    run(files, RagTrainingArguments(**PARAMETERS | {"overlap_search": False, "logging_steps": 2}))
    whole = {point["step"]: point["loss"] for point in log(tmp_path) if "loss" in point}
    assert resumed[6] == pytest.approx(whole[6], rel=0.05)  # one search, of step 5, saw an encoder one step younger


def test_a_run_with_other_parameters_starts_anew_and_tells_of_the_old_one(files, killed, tmp_path, capfd):
    run(files, RagTrainingArguments(**PARAMETERS | {"learning_rate": 1e-3}))
    told = capfd.readouterr().err
    assert f"{tmp_path}/work/{killed} holds step 4 of an unfinished run" in told
    assert "differs in learning_rate=0.003 (here 0.001)" in told
    assert "resuming from" not in told
    assert [path.name for path in (tmp_path / "work").glob("[!.]*")] == [killed]


def test_resume_from_goes_on_with_more_steps_and_another_rate(files, killed, tmp_path, capfd):
    changed = {"max_steps": 10, "learning_rate": 1e-3, "resume_from": killed, "warmup_steps": 0}
    assert run(files, RagTrainingArguments(**PARAMETERS | changed))["steps"] == 10
    told = capfd.readouterr().err
    assert "resuming from step 4 of" in told
    assert "learning_rate=0.003 (here 0.001), max_steps=6 (here 10)" in told
    rates = {point["step"]: point["learning_rate"] for point in log(tmp_path) if "learning_rate" in point}
    assert rates[5] == pytest.approx(1e-3 * (10 - 4) / 10)  # its own schedule
    assert (tmp_path / "work" / killed / "rag" / "checkpoint-4").is_dir()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"resume_from": "nowhere"}, "resume_from=nowhere: there is no run with a checkpoint"),
        ({"max_steps": 4}, "has trained 4 steps; raise max_steps above that"),
        ({"question_encoder_learning_rate": 1e-4}, "groups the weights by learning rate otherwise"),
        ({"metric_for_best_model": "recall@2", "n_docs": 2}, "recall@2: the run that is resumed has not measured it"),
    ],
)
def test_what_cannot_be_resumed_is_said(files, killed, changed, message):
    with pytest.raises(TrainingError, match=message):
        run(files, RagTrainingArguments(**PARAMETERS | {"resume_from": killed} | {"max_steps": 8} | changed))


def test_another_base_models_run_is_not_resumed(files, killed, tmp_path):
    inputs = tmp_path / "work" / killed / INPUTS
    told = json.loads(inputs.read_text())
    inputs.write_text(json.dumps(told | {"base_model": told["base_model"] | {"generator": "another"}}))
    with pytest.raises(TrainingError, match="was trained from another base model"):
        run(files, RagTrainingArguments(**PARAMETERS | {"resume_from": killed, "max_steps": 8}))


def test_the_same_run_is_not_begun_twice_and_leaves_no_lock(tmp_path):
    with (
        only_run(tmp_path / "work" / "run"),
        pytest.raises(StorageError, match=r"\.run\.lock: held by another process"),
        only_run(tmp_path / "work" / "run"),
    ):
        pass
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["run"]
