import threading

import pytest
import torch

from ragtune.models import batching
from ragtune.models.batching import batches, pad

CPU = torch.device("cpu")


def tokenize(items):
    return [[len(word) for text in item for word in text.split()] for item in items]


def test_each_text_is_in_one_batch_with_its_own_tokens():
    items = [("a bb ccc " * (row % 7 + 1), "d") for row in range(100)]
    found = {}
    for positions, tokens in batches(items, tokenize, CPU, batch_size=3):
        assert len(positions) <= 3
        found |= dict(zip(positions.tolist(), tokens, strict=True))
    assert found == dict(enumerate(tokenize(items)))


def test_texts_of_one_length_share_a_batch(monkeypatch):
    monkeypatch.setattr(batching, "_TOKENS_ON_CPU", 256)
    items = [("word " * (row % 50 + 1),) for row in range(1000)]
    padded = tokens_in_all = 0
    for _, tokens in batches(items, tokenize, CPU):
        longest = max(map(len, tokens))
        assert len(tokens) * longest <= 256
        padded += len(tokens) * longest
        tokens_in_all += sum(map(len, tokens))
    assert padded < 1.02 * tokens_in_all


def test_the_next_texts_are_tokenised_while_a_batch_is_computed(monkeypatch):
    monkeypatch.setattr(batching, "_BATCHES_AHEAD", 1)
    calls = 0
    second = threading.Event()

    def counted(items):
        nonlocal calls
        calls += 1
        if calls == 2:
            second.set()
        return tokenize(items)

    found = batches([("a b c",)] * 9, counted, CPU, batch_size=3)
    next(found)
    assert second.wait(10)
    assert len(list(found)) == 2


def test_what_tokenising_raises_is_raised():
    def fails(items):
        raise ValueError("no such token")

    with pytest.raises(ValueError, match="no such token"):
        list(batches([("a",)], fails, CPU))


def test_nothing_gives_no_batch():
    assert list(batches([], tokenize, CPU)) == []


def test_padding_is_behind_the_tokens_and_masked():
    ids, mask = pad([[5, 6, 7], [8], [9, 9]], padding=1)
    assert ids.tolist() == [[5, 6, 7], [8, 1, 1], [9, 9, 1]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0], [1, 1, 0]]
    assert ids.dtype == mask.dtype == torch.int64
