"""`method: federated` as a run's training; Flower's engine with its Ray runs in tests/test_sample_parameters.py."""

import json

import pytest
from direct_grid import DirectGrid
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ragtune.errors import TrainingError
from ragtune.federation import simulation
from ragtune.federation.client_app import make_client_app
from ragtune.federation.server import federate
from ragtune.federation.simulate import train_model
from ragtune.models.checkpoint import load_model, read_description
from ragtune.questions.learnt import read_learnt
from ragtune.training.arguments import RagTrainingArguments, RunFiles
from ragtune.training.prepare import prepare
from ragtune.training.run import run

PARAMETERS = {"max_steps": 4, "n_docs": 3, "temperature": 0.05, "retrieval": "exact", "learning_rate": 3e-3}
PARAMETERS |= {"per_device_train_batch_size": 4, "warmup_steps": 0, "logging_steps": 1}
OPTIONS = {"sites": 2, "rounds": 2}


@pytest.fixture
def files(world, knowledge_base, tmp_path):
    return RunFiles(world.pairs, knowledge_base, str(tmp_path / "model"), str(tmp_path / "work"), **world.parts)


def arguments(tmp_path, **options):
    own = {"method": "federated", "method_options": {**OPTIONS, **options}, "metric_for_best_model": "loss"}
    return RagTrainingArguments(**PARAMETERS, **own, tensorboard_folder=str(tmp_path / "curves"))


@pytest.fixture
def without_ray(monkeypatch, in_this_process):
    def simulate(plan, sites, start, on_round):
        return federate(DirectGrid(make_client_app(sites), range(1, len(sites) + 1)), plan, start, on_round)

    monkeypatch.setattr(simulation, "simulate", simulate)


def test_a_run_trains_its_sites_by_rounds(files, tmp_path, without_ray):
    results = run(files, arguments(tmp_path))
    assert {"rounds": 2, "best_round": 2, "steps": 8, "failed_sites": 0}.items() <= results.items()
    model = load_model(tmp_path / "model")
    description = read_description(tmp_path / "model")
    assert description["encoders"]["question"]["fingerprint"] == model.question_encoder.fingerprint
    assert description["lineage"]["parameters"]["method_options"]["sites"] == 2
    assert len(read_learnt(tmp_path / "model")) == 60
    told = json.loads((tmp_path / "model" / "federation.json").read_text())
    losses = [entry["metrics"]["loss"] for entry in told["rounds"]]
    assert losses[2] < losses[1] < losses[0] and told["round"] == 2
    log = json.loads((tmp_path / "model" / "training_log.json").read_text())
    assert [entry["step"] for entry in log] == [0, 2, 4] and log[2]["validation_loss"] == losses[2]
    curves = EventAccumulator(str(tmp_path / "curves")).Reload()
    assert {"federation/train_loss", "federation/em/site-1", "federation/loss/site-2"} <= set(curves.Tags()["scalars"])
    assert [event.step for event in curves.Scalars("federation/loss")] == [0, 1, 2]
    assert not any((tmp_path / "work").glob("[!.]*"))


def test_a_run_in_several_processes_is_refused(files, tmp_path):
    prepared = prepare(files, arguments(tmp_path))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(TrainingError, match="processes=2: method=federated"):
        patch.setattr(type(prepared.args), "world_size", 2)
        train_model(prepared)
