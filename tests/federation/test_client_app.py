"""The sites' answers, by their real training on the tiny world."""

import dataclasses
import inspect
import shutil

import numpy as np
import pytest
from datasets import DatasetDict, load_from_disk
from direct_grid import DirectGrid

from ragtune.errors import ParameterError, TrainingError
from ragtune.federation import site_training
from ragtune.federation.client_app import make_client_app, read_site
from ragtune.federation.local import round_settings, shared_settings
from ragtune.federation.rounds import Plan, weights_of_round
from ragtune.federation.server import federate
from ragtune.federation.site import Site
from ragtune.federation.weights import read_weights, travelling, write_weights
from ragtune.models.checkpoint import load_model, save_model
from ragtune.training import launch
from ragtune.training.arguments import RagTrainingArguments
from ragtune.training.methods.federated import FederatedOptions

pytestmark = pytest.mark.usefixtures("in_this_process")
ONE_FILE = {"train": 1, "validation": 1}  # of an empty split too
STALE = "generator/shared.weight"
TRAINED = frozenset({"question_encoder", "generator"})
PARAMETERS = {"max_steps": 2, "n_docs": 3, "temperature": 0.05, "retrieval": "exact", "learning_rate": 3e-3}
PARAMETERS |= {"per_device_train_batch_size": 4, "warmup_steps": 0, "logging_steps": 1, "report_to": "none"}


@pytest.fixture
def run(base_model, tmp_path):
    def run(sites, parameters=PARAMETERS, start=base_model, grid=DirectGrid, **options):
        options = FederatedOptions(**{"sites": len(sites), "rounds": 1, "round_seconds": 60.0} | options)
        args = RagTrainingArguments(**parameters)
        plan = Plan(options, shared_settings(args.to_dict()), "loss", False, tmp_path / "rounds")
        weights = read_weights(start, travelling(start, options.average, TRAINED))
        best, history = federate(grid(make_client_app(sites), range(1, len(sites) + 1)), plan, weights)
        return weights, weights_of_round(plan.folder, best), history

    return run


def moved(before, after, part):
    names = [name for name in before if name.startswith(part)]
    return max(float(np.abs(after[name] - before[name]).max()) for name in names)


def test_two_sites_train_in_turn_with_an_average_between(run, sites):
    before, after, history = run(sites, {**PARAMETERS, "max_steps": 4}, rounds=2)
    assert moved(before, after, "generator/") > 1e-4 and moved(before, after, "question_encoder/") > 1e-4
    assert [sorted(entry["sites"]) for entry in history] == [["site-1", "site-2"]] * 3
    last = history[2]["sites"]["site-2"]
    assert last["training_questions"] == 24 and last["questions"] == 6 and last["steps"] == 2
    assert {"train_loss", "own_em", "own_loss", "em", "loss", "recall@1", "recall@3"} <= last.keys()
    assert history[2]["metrics"]["loss"] < history[0]["metrics"]["loss"]


def test_what_is_not_averaged_stays_at_its_site_from_round_to_round(run, sites, base_model):
    shutil.copytree(base_model, f"{sites[0].work}/own-1")
    write_weights(f"{sites[0].work}/own-1", {STALE: np.full_like(read_weights(base_model, [STALE])[STALE], 9.0)})
    before, after, _ = run(sites, {**PARAMETERS, "max_steps": 4}, rounds=2, average="retriever")
    assert {name.partition("/")[0] for name in after} == {"question_encoder"} and moved(before, after, "question") > 0
    names = travelling(base_model, "generator", TRAINED)
    start, *own = (read_weights(folder, names) for folder in (base_model, *(f"{site.work}/own-2" for site in sites)))
    assert moved(start, own[0], "generator/") > 0 and moved(own[0], own[1], "generator/") > 0
    received = read_weights(f"{sites[0].work}/received", names)
    assert moved(received, own[0], "generator/") == 0
    assert moved(start, own[0], STALE) < 1  # an earlier federation's is forgotten


class Ending(DirectGrid):
    """The server is killed after the sites have trained round 2, and before the round is on disk."""

    def send_and_receive(self, messages, *, timeout=None):
        for message in messages:
            if message.content["config"]["server-round"] == 2 and "evaluate" in message.metadata.message_type:
                raise KeyboardInterrupt
        return super().send_and_receive(messages, timeout=timeout)


def test_a_round_that_comes_again_trains_what_stays_at_a_site_from_the_round_before(run, sites, base_model):
    names, own = travelling(base_model, "generator", TRAINED), f"{sites[0].work}/own-2"
    options = {"parameters": {**PARAMETERS, "max_steps": 4}, "rounds": 2, "average": "retriever"}
    with pytest.raises(KeyboardInterrupt):
        run(sites, grid=Ending, **options)
    once = read_weights(own, names)
    run(sites, **options)
    assert moved(once, read_weights(own, names), "generator/") == 0


def test_adapters_alone_travel(run, sites, tmp_path, base_model):
    from ragtune.training.lora import begin_adapter

    parameters = {**PARAMETERS, "lora_rank": 2, "freeze_question_encoder": True}
    model = load_model(base_model)
    begin_adapter(model.generator, RagTrainingArguments(**parameters))
    save_model(model, tmp_path / "start")
    before, after, history = run(sites, parameters, tmp_path / "start", average="adapters")
    assert all("lora_" in name for name in after) and moved(before, after, "generator/adapter/") > 0
    assert not any(entry["failed"] for entry in history)


def test_fedprox_pulls_the_sites_to_the_average(run, sites, monkeypatch):
    asked = []
    monkeypatch.setattr(Site, "train", lambda site, weights, settings, average, number: asked.append(settings) or 1 / 0)
    with pytest.raises(TrainingError, match="round 1: 0 sites gave weights back"):
        run(sites, strategy="FedProx", strategy_options={"proximal_mu": 0.5})
    assert [settings["proximal_mu"] for settings in asked] == [0.5, 0.5]


def test_a_site_with_another_architecture_is_named_and_left_out(run, sites, tmp_path):
    model = load_model(sites[1].model)
    model.generator.backbone.resize_token_embeddings(len(model.generator.tokenizer) + 64)
    save_model(model, tmp_path / "other")
    _, _, history = run([sites[0], dataclasses.replace(sites[1], model=str(tmp_path / "other"))])
    (reason,) = {entry["failed"]["site-2"] for entry in history}
    assert reason.startswith("site site-2: its model is another than the server's: generator/")
    assert "give every site and the server the same base model" in reason
    assert "site-2" not in history[1]["sites"]


def test_a_site_without_data_is_named_and_left_out(run, sites):
    whole = load_from_disk(sites[1].dataset)
    empty = f"{sites[1].dataset}-empty"
    shutil.copytree(sites[1].dataset, empty)
    DatasetDict({name: split.select([]) for name, split in whole.items()}).save_to_disk(
        empty, num_shards={"train": 1, "validation": 1}
    )
    _, _, history = run([sites[0], dataclasses.replace(sites[1], dataset=empty)])
    assert "no question to train on; filter_questions" in history[1]["failed"]["site-2"]


def test_a_site_without_validation_questions_trains(run, sites):
    whole = load_from_disk(sites[1].dataset)
    few = f"{sites[1].dataset}-few"
    shutil.copytree(sites[1].dataset, few)
    DatasetDict({"train": whole["train"], "validation": whole["validation"].select([])}).save_to_disk(
        few, num_shards={"train": 1, "validation": 1}
    )
    _, _, history = run([sites[0], dataclasses.replace(sites[1], dataset=few)])
    assert history[1]["sites"]["site-2"].keys() == {"training_questions", "train_loss", "steps", "seconds", "questions"}
    assert history[1]["metrics"]["em"] == history[1]["sites"]["site-1"]["em"]


def test_a_sites_configuration_is_checked_by_name():
    config = {"site": "berlin", "dataset": "/pairs", "knowledge-base": "/base", "model": "/model", "work": "/work"}
    site = read_site({**config, "settings": '{"retrieval": "exact"}', "processes": 2})
    assert site == Site("berlin", "/pairs", "/base", "/model", "/work", settings='{"retrieval": "exact"}', processes=2)
    with pytest.raises(ParameterError, match="--node-config: no knowlege-base; did you mean knowledge-base"):
        read_site({**config, "knowlege-base": "/base"})
    with pytest.raises(ParameterError, match="model is missing; a site needs site, dataset, knowledge-base"):
        read_site({name: value for name, value in config.items() if name != "model"})


def test_a_site_of_several_gpus_starts_its_processes_with_what_finetune_knows(sites, base_model, monkeypatch, tmp_path):
    def finetune(**given):
        bound = inspect.signature(launch.finetune).bind(**given).arguments
        launch._long_names(bound["parameters"])  # refuses what is no parameter of a training
        raise TrainingError(f"{bound['processes']} processes of {bound['parameters']['method']}")

    monkeypatch.setattr(site_training, "finetune", finetune)
    shared = shared_settings(RagTrainingArguments(**PARAMETERS).to_dict())
    settings = round_settings(shared, FederatedOptions(rounds=1), 1)
    with pytest.raises(TrainingError, match="2 processes of rag"):
        site = dataclasses.replace(sites[0], processes=2)
        site_training.train(site, settings, str(base_model), str(tmp_path / "out"))
