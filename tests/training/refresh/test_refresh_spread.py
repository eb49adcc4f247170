import numpy as np
import pytest
from world import PASSAGES

from ragtune.models.encoders import Encoder
from ragtune.training.refresh.spread import SpreadEncoder, spread


@pytest.mark.parametrize("passages", [PASSAGES, PASSAGES[:1], []], ids=len)
def test_two_devices_share_the_passages_and_give_the_vectors_of_one(world, passages):
    encoder = Encoder.from_pretrained(world.encoder, "passage")
    both = spread(encoder, ["cpu", "cpu"])
    assert isinstance(both, SpreadEncoder)
    taken = []
    for number, one in enumerate(both.encoders):
        encode = one.encode_passages
        one.encode_passages = lambda given, encode=encode, number=number: (
            taken.append((number, len(given))) or encode(given)
        )
    expected = Encoder.from_pretrained(world.encoder, "passage").encode_passages(passages)
    assert both.encode_passages(passages) == pytest.approx(expected, abs=1e-6)
    assert dict(taken) == {0: -(-len(passages) // 2), 1: len(passages) // 2}
    assert (both.fingerprint, both.dimension) == (encoder.fingerprint, expected.shape[1])
    assert both.encode_passages(passages).dtype == np.float32


def test_one_device_needs_no_copy(world):
    encoder = Encoder.from_pretrained(world.encoder, "passage")
    assert spread(encoder, ["cpu"]) is encoder
