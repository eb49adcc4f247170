import hashlib

import pytest
import torch
from torch import nn

from ragtune.errors import ModelError
from ragtune.models.weights import add_weights, relative_distance


def hashed(weights):
    digest = hashlib.sha256()
    add_weights(digest, weights)
    return digest.hexdigest()


def test_names_shapes_and_values_count_and_neither_order_nor_precision():
    weights = {"a": torch.ones(2, 3), "b": torch.zeros(4)}
    assert hashed(dict(reversed(weights.items()))) == hashed(weights)
    assert hashed({name: weight.bfloat16() for name, weight in weights.items()}) == hashed(weights)
    for other in ({"a": torch.ones(3, 2)}, {"a": torch.ones(2, 3) + 1}, {"c": torch.ones(2, 3)}):
        assert hashed(weights | other) != hashed(weights)


def test_the_hash_is_the_one_of_models_that_were_fingerprinted_before():
    expected = hashlib.sha256(b"a(2,)" + torch.tensor([1.0, 2.0]).numpy().tobytes()).hexdigest()
    assert hashed({"a": torch.tensor([1.0, 2.0])}) == expected


def test_the_distance_is_relative_to_the_weights_before():
    one, other = nn.Linear(2, 1), nn.Linear(2, 1)
    for module, weight in ((one, [3.0, 4.0]), (other, [3.0, 7.0])):
        module.load_state_dict({"weight": torch.tensor([weight]), "bias": torch.zeros(1)})
    assert relative_distance(one, other) == pytest.approx(3 / 5)
    assert relative_distance(one, one) == 0


def test_two_architectures_have_no_distance():
    with pytest.raises(ModelError, match="weight: is of shape"):
        relative_distance(nn.Linear(2, 1), nn.Linear(3, 1))
    with pytest.raises(ModelError, match="without a weight in common"):
        relative_distance(nn.Linear(2, 1), nn.Sequential(nn.Linear(2, 1)))
