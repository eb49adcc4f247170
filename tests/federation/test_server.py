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


def interrupt_behind(number):
    def interrupt(entry):
        if entry["round"] == number:
            raise KeyboardInterrupt

    return interrupt


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
        with pytest.raises(KeyboardInterrupt):
            federate(grid, plan(tmp_path, rounds=4, round_seconds=1), START, interrupt_behind(behind))
        assert sorted(last_round(tmp_path).history[behind]["sites"]) == there


def test_a_finished_federation_asks_no_site(tmp_path):
    federate(DirectGrid(app_of_sites(), NAMES), plan(tmp_path, rounds=1), START)
    best, history = federate(None, plan(tmp_path, rounds=1), START)
    assert (best, len(history)) == (1, 2)


def test_a_round_whose_sites_have_gone_says_so(tmp_path):
    grid = DirectGrid(app_of_sites(), NAMES)
    with pytest.raises(TrainingError, match=r"0 of 2 sites are connected after 0\.1 seconds"):
        federate(grid, plan(tmp_path, min_sites=2), START, lambda entry: entry["round"] == 1 and grid.nodes.clear())
    assert last_round(tmp_path).number == 1


def test_a_restarted_server_waits_for_a_minute_at_most(tmp_path, monkeypatch):
    monkeypatch.setattr("ragtune.federation.server._REJOIN_SECONDS", 0.1)
    with pytest.raises(KeyboardInterrupt):
        federate(DirectGrid(app_of_sites(), NAMES), plan(tmp_path, rounds=2), START, interrupt_behind(1))
    _, history = federate(DirectGrid(app_of_sites(), [1]), plan(tmp_path, rounds=2, round_seconds=900), START)
    assert sorted(history[2]["sites"]) == ["berlin"]


def test_a_server_without_its_sites_says_so_and_does_with_fewer_if_asked(tmp_path):
    grid = DirectGrid(app_of_sites(), [1, 2])
    with pytest.raises(TrainingError, match=r"2 of 3 sites are connected after 0\.1 seconds; start flower-supernode"):
        federate(grid, plan(tmp_path), START)
    assert len(federate(grid, plan(tmp_path, sites=2, rounds=1), {"generator/w": np.ones(2, np.float32)})[1]) == 2


class Leaving(DirectGrid):
    """All sites but one leave after they have trained."""

    def send_and_receive(self, messages, *, timeout=None):
        replies = super().send_and_receive(messages, timeout=timeout)
        if any("train" in message.metadata.message_type for message in messages):
            self.nodes = self.nodes[:1]
        return replies


def test_sites_that_leave_after_training_lose_the_round_nothing_but_their_evaluation(tmp_path):
    _, history = federate(Leaving(app_of_sites(), NAMES), plan(tmp_path, rounds=1, min_sites=3), START)
    assert sorted(history[1]["sites"]) == ["berlin", "oslo", "rome"]
    assert [name for name, metrics in history[1]["sites"].items() if "loss" in metrics] == ["berlin"]


def test_a_site_that_is_silent_in_the_evaluation_is_named(tmp_path):
    app = app_of_sites()

    class Falling(DirectGrid):
        def send_and_receive(self, messages, *, timeout=None):
            evaluation = not any("train" in message.metadata.message_type for message in messages)
            self.silent = {2} if evaluation and self.sent[3:] else set()
            return super().send_and_receive(messages, timeout=timeout)

    _, history = federate(Falling(app, NAMES), plan(tmp_path, rounds=1), START)
    assert history[1]["failed"] == {"oslo": "site oslo: no answer within 0.1 seconds"}


@pytest.mark.parametrize("argument", ["min_train_nodes", "min_evaluate_nodes"])
def test_a_strategy_that_wants_more_sites_than_there_are_does_not_wait_for_ever(tmp_path, monkeypatch, argument):
    monkeypatch.setattr("ragtune.federation.server._REJOIN_SECONDS", 0.1)
    options = {"strategy_options": {argument: 4}}
    with pytest.raises(TrainingError, match=r"3 sites are connected, and the strategy waits for more; .*min_…_nodes"):
        federate(DirectGrid(app_of_sites(), NAMES), plan(tmp_path, **options), START)


def test_a_resumed_strategy_with_a_memory_ends_where_an_uninterrupted_one_does(tmp_path):
    options = {"strategy": "FedAdam", "strategy_options": {"eta": 0.5}}
    federate(DirectGrid(app_of_sites(), NAMES), plan(tmp_path / "whole", **options), START)
    with pytest.raises(KeyboardInterrupt):
        federate(DirectGrid(app_of_sites(), NAMES), plan(tmp_path / "cut", **options), START, interrupt_behind(2))
    federate(DirectGrid(app_of_sites(), NAMES), plan(tmp_path / "cut", **options), START)
    whole, cut = (weights_of_round(tmp_path / name, 3)["generator/w"] for name in ("whole", "cut"))
    assert np.array_equal(whole, cut) and not np.array_equal(whole, START["generator/w"])


def test_a_federation_goes_on_with_fewer_sites_and_not_from_another_base_model(tmp_path):
    grid = DirectGrid(app_of_sites(), NAMES)
    with pytest.raises(KeyboardInterrupt):
        federate(grid, plan(tmp_path, rounds=2, min_sites=3), START, interrupt_behind(1))
    with pytest.raises(TrainingError, match="a federation that differs in base; give its own"):
        federate(grid, plan(tmp_path, rounds=2), {"generator/w": np.ones(2, np.float32)})
    _, history = federate(DirectGrid(app_of_sites(), [1]), plan(tmp_path, rounds=2, round_seconds=0.2), START)
    assert sorted(history[2]["sites"]) == ["berlin"]


def test_what_saves_memory_may_change_between_starts_and_the_size_of_a_step_may_not(tmp_path):
    def of(**shared):
        own = plan(tmp_path, rounds=2)
        return Plan(own.options, SHARED | shared, own.metric, own.keeps_best, own.folder)

    grid = DirectGrid(app_of_sites(), NAMES)
    with pytest.raises(KeyboardInterrupt):
        federate(grid, of(per_device_train_batch_size=8), START, interrupt_behind(1))
    smaller = {"per_device_train_batch_size": 4, "save_steps": 5, "retrieval": "gather"}
    for differing in ({"gradient_accumulation_steps": 1}, {"gradient_accumulation_steps": 2, "retrieval": "exact"}):
        with pytest.raises(TrainingError, match="a federation that differs in settings; give its own"):
            federate(grid, of(**smaller | differing), START)
    _, history = federate(grid, of(**smaller, gradient_accumulation_steps=2), START)
    assert [entry["round"] for entry in history] == [0, 1, 2]


def test_two_sites_of_one_name_are_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(NAMES, 2, "berlin")
    with pytest.raises(TrainingError, match="evaluation of round 0: two sites are called berlin; give each SuperNode"):
        federate(DirectGrid(app_of_sites(), NAMES), plan(tmp_path), START, lambda _: None)


def test_a_strategy_that_cannot_average_so_few_sites_says_so(tmp_path):
    options = {"strategy": "Bulyan", "strategy_options": {"num_malicious_nodes": 1}}
    with pytest.raises(TrainingError, match="round 1: strategy=Bulyan made no average of 3 sites, as Flower"):
        federate(DirectGrid(app_of_sites(), NAMES), plan(tmp_path, **options), START, lambda _: None)
