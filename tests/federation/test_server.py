"""The server's rounds, with sites that move a weight by their number and tell how far it is from 4."""

import json

import numpy as np
import pytest
from direct_grid import DirectGrid
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from ragtune.errors import TrainingError
from ragtune.federation.rounds import Plan, last_round, weights_of_round
from ragtune.federation.server import federate
from ragtune.training.methods.federated import FederatedOptions

START = {"generator/w": np.zeros(2, np.float32)}
SHARED = {"max_steps": 9, "learning_rate": 0.1, "seed": 0}
NAMES = {1: "berlin", 2: "oslo", 4: "rome"}
QUESTIONS = {1: 10, 2: 10, 4: 20}


def app_of_sites(dies=lambda node, settings: False):
    app = ClientApp()

    def reply(message, node, metrics, arrays=None):
        records = {"arrays": arrays} if arrays is not None else {}
        records["metrics"] = MetricRecord({"num-examples": QUESTIONS[node], **({"train_loss": 1.0} if records else {})})
        records["site"] = ConfigRecord({"name": NAMES[node], "metrics": json.dumps(metrics)})
        return Message(RecordDict(records), reply_to=message)

    @app.train()
    def train(message, context):
        node, settings = context.node_id, json.loads(message.content["config"]["settings"])
        if dies(node, settings):
            raise TrainingError(f"site {NAMES[node]}: its process was ended by SIGKILL")
        moved = {name: Array(array.numpy() + node) for name, array in message.content["arrays"].items()}
        metrics = {"questions": QUESTIONS[node], "train_loss": node / 2, "steps": settings["max_steps"], "seconds": 1.0}
        return reply(message, node, metrics, ArrayRecord(moved))

    @app.evaluate()
    def evaluate(message, context):
        loss = abs(float(message.content["arrays"]["generator/w"].numpy()[0]) - 4)
        return reply(message, context.node_id, {"questions": QUESTIONS[context.node_id], "loss": loss})

    return app


def plan(folder, keeps_best=False, **options):
    settings = {"sites": 3, "rounds": 3, "round_seconds": 0.1} | options
    return Plan(FederatedOptions(**settings), SHARED, "loss", keeps_best, folder)


def test_the_average_goes_by_questions_and_each_sites_metrics_are_told(tmp_path):
    entries = []
    best, history = federate(DirectGrid(app_of_sites(), NAMES), plan(tmp_path, rounds=1), START, entries.append)
    assert weights_of_round(tmp_path, best)["generator/w"].tolist() == [(1 + 2 + 2 * 4) / 4] * 2
    assert entries == history and [entry["round"] for entry in history] == [0, 1]
    assert history[0]["metrics"] == {"loss": 4.0}
    assert history[1]["metrics"] == {"train_loss": (0.5 + 1 + 2 * 2) / 4, "loss": 1.25}
    assert history[1]["sites"]["rome"] == {
        "training_questions": 20,
        "train_loss": 2.0,
        "steps": 9,
        "seconds": 1.0,
        "questions": 20,
        "loss": 1.25,
    }


def test_the_best_round_is_kept(tmp_path):
    best, history = federate(DirectGrid(app_of_sites(), NAMES), plan(tmp_path, True), START, lambda _: None)
    losses = [entry["metrics"]["loss"] for entry in history]
    assert (best, losses) == (1, [4.0, 1.25, 1.5, 4.25])
    assert weights_of_round(tmp_path, 1)["generator/w"][0] == 2.75


def test_a_site_that_dies_does_not_lose_the_round_and_comes_back(tmp_path, capsys):
    grid = DirectGrid(app_of_sites(lambda node, settings: node == 4 and settings["seed"] == 2), NAMES)
    _, history = federate(grid, plan(tmp_path), START, lambda _: None)
    assert [sorted(entry["failed"]) for entry in history] == [[], [], ["rome"], []]
    assert history[2]["failed"]["rome"] == "site rome: its process was ended by SIGKILL"
    assert "round 2: site rome: its process was ended by SIGKILL" in capsys.readouterr().err
    assert weights_of_round(tmp_path, 3)["generator/w"][0] == 2.75 + 1.5 + 2.75


def test_a_site_that_does_not_answer_is_named_and_the_round_goes_on(tmp_path):
    grid = DirectGrid(app_of_sites(), NAMES)
    federate(grid, plan(tmp_path, rounds=3, min_sites=1), START, lambda entry: grid.silent.add(2))
    history = last_round(tmp_path).history
    assert history[1]["failed"] == {"oslo": "site oslo: no answer within 0.1 seconds"}


def test_too_few_sites_end_the_round_which_a_restarted_server_repeats(tmp_path):
    dead = []
    app = app_of_sites(lambda node, settings: node in dead)
    options = {"min_sites": 2}

    def kill(entry):
        dead[:] = [1, 2] if entry["round"] == 1 else []

    with pytest.raises(TrainingError, match=r"round 2: 1 sites gave .* min_sites=2; site berlin: .*resumes"):
        federate(DirectGrid(app, NAMES), plan(tmp_path, **options), START, kill)
    assert last_round(tmp_path).number == 1
    dead.clear()
    entries, grid = [], DirectGrid(app, NAMES)
    federate(grid, plan(tmp_path, **options), START, entries.append)
    rounds = [
        message.content["config"]["server-round"] for message in grid.sent if "train" in message.metadata.message_type
    ]
    assert rounds == [2, 2, 2, 3, 3, 3]
    assert [entry["round"] for entry in entries] == [0, 1, 2, 3]
    assert weights_of_round(tmp_path, 3)["generator/w"][0] == 3 * 2.75


class ComingBack(DirectGrid):
    """The sites are connected one after the other, after a server has been started again; Flower asks, too."""

    def get_node_ids(self):
        self.asked = getattr(self, "asked", 0) + 1
        return self.nodes[: self.asked // 10]


def test_a_restarted_server_waits_for_all_its_sites_and_goes_on_without_those_that_stay_away(tmp_path, monkeypatch):
    monkeypatch.setattr("ragtune.federation.server._POLL_SECONDS", 0.001)
    everybody, app = ["berlin", "oslo", "rome"], app_of_sites()
    starts = (
        (DirectGrid(app, NAMES), everybody),
        (ComingBack(app, NAMES), everybody),
        (DirectGrid(app, [1]), ["berlin"]),
    )
    for behind, (grid, there) in enumerate(starts, 1):

        def kill(entry, behind=behind):
            if entry["round"] == behind:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            federate(grid, plan(tmp_path, rounds=4, round_seconds=1), START, kill)
        assert sorted(last_round(tmp_path).history[behind]["sites"]) == there


def test_a_server_without_its_sites_says_so(tmp_path):
    with pytest.raises(TrainingError, match=r"1 of 3 sites are connected after 0\.1 seconds; start flower-supernode"):
        federate(DirectGrid(app_of_sites(), [1]), plan(tmp_path), START, lambda _: None)


def test_two_sites_of_one_name_are_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(NAMES, 2, "berlin")
    with pytest.raises(TrainingError, match="evaluation of round 0: two sites are called berlin; give each SuperNode"):
        federate(DirectGrid(app_of_sites(), NAMES), plan(tmp_path), START, lambda _: None)


def test_a_strategy_that_cannot_average_so_few_sites_says_so(tmp_path):
    options = {"strategy": "Bulyan", "strategy_options": {"num_malicious_nodes": 1}}
    with pytest.raises(TrainingError, match="round 1: strategy=Bulyan made no average of 3 sites, as Flower"):
        federate(DirectGrid(app_of_sites(), NAMES), plan(tmp_path, **options), START, lambda _: None)
