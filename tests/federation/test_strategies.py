import numpy as np
import pytest
from direct_grid import DirectGrid
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from ragtune.errors import TrainingError
from ragtune.federation.strategies import make_strategy, restore, state_of


def moving():
    """An app whose node n moves every weight by n."""
    app = ClientApp()

    @app.train()
    def train(message, context):
        arrays = {name: array.numpy() + context.node_id for name, array in message.content["arrays"].items()}
        records = {"arrays": ArrayRecord({name: Array(array) for name, array in arrays.items()})}
        records["metrics"] = MetricRecord({"num-examples": 10, "train_loss": 1.0})
        return Message(RecordDict(records), reply_to=message)

    return app


def a_round(strategy, number, weights):
    grid = DirectGrid(moving(), [1, 3])
    arrays = ArrayRecord({name: Array(weight) for name, weight in weights.items()})
    replies = grid.send_and_receive(strategy.configure_train(number, arrays, ConfigRecord(), grid))
    return {name: array.numpy() for name, array in strategy.aggregate_train(number, replies)[0].items()}


WEIGHTS = {"a": np.zeros(2, np.float32), "b": np.ones((2, 2), np.float32)}
MOMENTUM = {"server_momentum": 0.9, "server_learning_rate": 0.5}


def test_fedavg_averages():
    assert a_round(make_strategy("FedAvg", {}, 1), 1, WEIGHTS)["a"].tolist() == [2, 2]


@pytest.mark.parametrize("name, options", [("FedAdam", {"eta": 0.5}), ("FedYogi", {}), ("FedAvgM", MOMENTUM)])
def test_a_strategy_with_a_memory_goes_on_where_it_stood(name, options):
    whole, first, second = (make_strategy(name, options, 1) for _ in range(3))
    after = a_round(whole, 1, WEIGHTS)
    expected = a_round(whole, 2, after)
    assert np.array_equal(a_round(first, 1, WEIGHTS)["b"], after["b"])
    restore(second, state_of(first))
    found = a_round(second, 2, after)
    assert all(np.array_equal(found[name], expected[name]) for name in WEIGHTS)
    forgetful = a_round(make_strategy(name, options, 1), 2, after)
    assert not np.array_equal(forgetful["a"], expected["a"])


def test_a_strategy_around_another_one_is_named_within_it():
    name = "DifferentialPrivacyServerSideFixedClipping"
    options = {"noise_multiplier": 0.1, "clipping_norm": 1.0, "num_sampled_clients": 2}
    strategy = make_strategy(name, {**options, "strategy": {"name": "FedProx", "proximal_mu": 0.5}}, 2)
    assert (type(strategy.strategy).__name__, strategy.strategy.proximal_mu) == ("FedProx", 0.5)
    restore(strategy, {key: value * 2 for key, value in state_of(strategy).items()})
    assert (strategy.clipping_norm, strategy.strategy.proximal_mu) == (2.0, 1.0)


def test_strategies_that_cannot_be_are_refused_by_name():
    with pytest.raises(TrainingError, match="strategy=FedAvgg: Flower has none of that name; did you mean FedAvg"):
        make_strategy("FedAvgg", {}, 1)
    with pytest.raises(TrainingError, match="strategy=FedXgbBagging: averages trees"):
        make_strategy("FedXgbBagging", {}, 1)
    with pytest.raises(TrainingError, match="strategy_options: FedProx takes no proximal; did you mean proximal_mu"):
        make_strategy("FedProx", {"proximal": 1}, 1)
    with pytest.raises(TrainingError, match=r"strategy_options of QFedAvg: .*client_learning_rate"):
        make_strategy("QFedAvg", {}, 1)
