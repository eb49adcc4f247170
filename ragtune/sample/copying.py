"""A tiny T5 that starts out knowing how to look at a word's neighbours and how to copy a word that it looks at.

Only its first weights are special: every one is an ordinary weight of `T5ForConditionalGeneration` and is trained on.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, T5Config, T5ForConditionalGeneration

_BACK, _FORWARD = 0, 1  # the encoder's heads that look at neighbours
_MATCHING = {_BACK: 2, _FORWARD: 3}  # the head that looks for words with the same such neighbour
_LOOK = 8.0  # a score for standing beside; e^8 outweighs a passage's sixty words
_MATCH = 0.2  # a score for every dimension in which two words agree
_INDIFFERENT = 0.0004  # the same where a head is to look by distance alone
_LOUD = 1.5  # what the first layer writes about neighbours, beside a word of length 1
_QUIET = 0.2  # what blurs that: feed-forward layers, and the decoder's attention to its own words


def copying_generator(tokenizer: PreTrainedTokenizerBase, seed: int = 0, **options: int) -> T5ForConditionalGeneration:
    """A T5 for the tokenizer's words, with structured first weights.

    - Encoder, in every layer: head 0 looks one word back, head 1 one word forward. In the first layer heads 2 and 3
      look for the same word elsewhere, later for words that have the same word before (2) or behind them (3): so what
      fills a blank finds the blank, and a word of the passage what the question holds of its surroundings.
    - Cross-attention: queries read of the decoder's last word what keys find written about a word's predecessor
      (Q ∝ K of the same word), so the decoder looks for what comes next; what a head reads it writes back unchanged
      (O = Vᵀ, V orthogonal), so a word looked at becomes the word said.

    Args:
        tokenizer: `build_word_tokenizer`.
        seed: random seed of the weights.
        options: T5Config's own, over the defaults here.
    """
    torch.manual_seed(seed)
    config = T5Config(
        **{
            "vocab_size": len(tokenizer),
            "d_model": 128,
            "d_kv": 32,
            "d_ff": 256,
            "num_layers": 3,
            "num_decoder_layers": 2,
            "num_heads": 4,
            "dropout_rate": 0.0,
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "decoder_start_token_id": tokenizer.pad_token_id,
            **options,
        }
    )
    model = T5ForConditionalGeneration(config)
    with torch.no_grad():
        _set_cross_attention(model, *_set_encoder(model))
        _quieten(model)
    return model


def _set_encoder(model: T5ForConditionalGeneration) -> tuple[Tensor, Tensor]:
    """Returns what the first layer's backward head reads of a word, and where it writes it; (d_kv, d_model) both."""
    size, width = model.config.d_kv, model.config.d_model
    layers: list[Any] = [block.get_submodule("layer.0.SelfAttention") for block in model.encoder.block]
    first = layers[0]
    _set_bias(first.relative_attention_bias.weight)
    for attention in layers:
        for head in range(model.config.num_heads):
            rows = slice(head * size, (head + 1) * size)
            attention.v.weight[rows] = _orthogonal(size, width)
            attention.o.weight[:, rows] = _orthogonal(size, width).T
            attention.q.weight[rows] = _INDIFFERENT**0.5 * _orthogonal(size, width)
        for neighbour, head in _MATCHING.items():
            written = first.o.weight[:, neighbour * size : (neighbour + 1) * size].T
            looks_for = _orthogonal(size, width) if attention is first else written
            attention.q.weight[head * size : (head + 1) * size] = _MATCH**0.5 * looks_for
        attention.k.weight.copy_(attention.q.weight)
    first.o.weight[:, : len(_MATCHING) * size] *= _LOUD
    back = slice(_BACK * size, (_BACK + 1) * size)
    return first.v.weight[back].clone(), first.o.weight[:, back].T / _LOUD


def _set_bias(bias: Tensor) -> None:
    """Scores by distance, (buckets, heads), for all layers; bucket 1 is the word before, half + 1 the one behind."""
    bias.zero_()
    bias[1, _BACK] = _LOOK
    bias[len(bias) // 2 + 1, _FORWARD] = _LOOK
    bias[0, list(_MATCHING.values())] = -_LOOK  # elsewhere: every word has all in common with itself


def _set_cross_attention(model: T5ForConditionalGeneration, read: Tensor, written: Tensor) -> None:
    heads = model.config.num_heads
    for block in model.decoder.block:
        attention: Any = block.get_submodule("layer.1.EncDecAttention")
        attention.q.weight.copy_(_MATCH**0.5 * read.repeat(heads, 1))
        attention.k.weight.copy_(_MATCH**0.5 * written.repeat(heads, 1))
        attention.v.weight.copy_(_orthogonal(heads * model.config.d_kv, model.config.d_model))
        attention.o.weight.copy_(attention.v.weight.T)


def _quieten(model: T5ForConditionalGeneration) -> None:
    for name, weight in model.named_parameters():
        if name.endswith("DenseReluDense.wo.weight") or ("decoder" in name and name.endswith("SelfAttention.o.weight")):
            weight.mul_(_QUIET)


def _orthogonal(rows: int, columns: int) -> Tensor:
    return nn.init.orthogonal_(torch.empty(rows, columns))
