import pytest
import torch

from ragtune.sample.copying_causal import copying_causal_generator
from ragtune.sample.word_tokenizer import build_word_tokenizer

TEXT = "the sea is wide and the hill is high while the tree by the lake is old"


@pytest.fixture(scope="module")
def attentions():
    """Of every layer, (heads, words, words), by a model that has not been trained."""
    tokenizer = build_word_tokenizer([TEXT])
    model = copying_causal_generator(tokenizer).eval()
    model.set_attn_implementation("eager")
    ids = torch.tensor([tokenizer(TEXT, add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        return [layer[0] for layer in model(ids, output_attentions=True).attentions], ids[0]


def test_heads_look_one_and_two_words_back_whatever_the_words_are(attentions):
    for layer in attentions[0][:-2]:
        assert layer[0].diagonal(-1).min() > 0.9
        assert layer[1].diagonal(-2).min() > 0.9


def test_a_head_finds_the_same_word_elsewhere(attentions):
    (first, *_), ids = attentions
    last = int((ids == ids[0]).nonzero()[-1])
    others = (ids[:last] == ids[0]).nonzero().flatten()
    assert first[2][last, others].sum() > 0.5


def test_heads_of_the_last_layers_look_for_what_came_behind_the_word(attentions):
    layers, ids = attentions
    last = int((ids == ids[0]).nonzero()[-1])
    followers = (ids[: last - 1] == ids[0]).nonzero().flatten() + 1
    assert layers[-2][0][last, followers].sum() > 3 * len(followers) / len(ids)
