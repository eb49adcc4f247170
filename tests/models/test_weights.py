import hashlib

import torch

from ragtune.models.weights import add_weights


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
