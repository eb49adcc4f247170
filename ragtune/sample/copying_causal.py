"""A tiny decoder-only model that starts out knowing how to look at a word's predecessors and how to copy a word.

Only its first weights are special: every one is an ordinary weight of `StableLmForCausalLM` and is trained on. That
architecture turns a part of each head by position and leaves the rest to the words alone, and its queries and keys
have biases: so a head can look one word back whatever the words are, and another for a word wherever it stands.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, StableLmConfig, StableLmForCausalLM

from ragtune.sample.word_tokenizer import BLANK

_SPACE = "▁"
_TURNED = 12  # dimensions of a head that position turns, in pairs
_TURNS_BASE = 1.7  # of the frequencies: within 256 words, no distance is mistaken for the one that is looked for
_LOOK = 3.5  # a score for standing at the distance, for every pair
_ELSEWHERE = 1.2  # against standing at the same place, for every pair: there every word has all in common with itself
_MATCH = 0.7  # a score for every dimension in which two words agree
_ASKED = 4.0  # a score for having found what a task asks for
_OUTPUT = 0.1  # of the last norm: a word's vector, which is as long as its output's, would shout else
_LOUD, _QUIET, _SAID = 1.5, 0.3, 2.0  # what a head writes, beside a word; the last is what is to be said
_COPYING_LAYERS = 2  # the last ones, which find what is to be said and say it


def copying_causal_generator(tokenizer: PreTrainedTokenizerBase, seed: int = 0, **options: Any) -> StableLmForCausalLM:
    """A StableLM for the tokenizer's words, with structured first weights.

    - First layer: heads 0 and 1 look one and two words back, heads 2 and 3 for the same word elsewhere.
    - Then heads 0 and 1 look back as well, head 2 looks for words with the same predecessor, so that what fills a
      task's blank finds the blank, and head 3 for what once came behind the word.
    - Last two layers: heads 0 and 1 look for what once came behind the word, heads 2 and 3 for what has found the blank
      or the end of a task; they write it back unchanged (O = Vᵀ, V orthogonal), so that it is said next.

    Args:
        tokenizer: `build_word_tokenizer`.
        seed: random seed of the weights.
        options: StableLmConfig's own, over the defaults here.
    """
    torch.manual_seed(seed)
    heads, width = 4, 128
    config = StableLmConfig(
        **{
            "vocab_size": len(tokenizer),
            "hidden_size": width,
            "intermediate_size": 256,
            "num_hidden_layers": 5,
            "num_attention_heads": heads,
            "num_key_value_heads": heads,
            "max_position_embeddings": 512,
            "use_qkv_bias": True,
            "tie_word_embeddings": True,
            "initializer_range": width**-0.5,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": _TURNS_BASE,
                "partial_rotary_factor": _TURNED / (width // heads),
            },
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            **options,
        }
    )
    model = StableLmForCausalLM(config)
    with torch.no_grad():
        embeddings: Any = model.get_input_embeddings().weight
        embeddings.normal_()
        model.model.norm.weight.fill_(_OUTPUT)
        asked = embeddings[tokenizer.convert_tokens_to_ids([_SPACE + BLANK, _SPACE + "/"])].sum(dim=0)
        _set_attention(model, asked)
        for layer in model.model.layers:
            layer.mlp.down_proj.weight.mul_(_QUIET)
    return model


def _set_attention(model: StableLmForCausalLM, asked: Tensor) -> None:
    """`asked`: the sum of the vectors of the words that stand where a task's answer belongs, (width,)."""
    width, heads = model.config.hidden_size, model.config.num_attention_heads
    size = width // heads
    layers: list[Any] = [layer.self_attn for layer in model.model.layers]
    # What a head reads of a word and where it writes it: of the predecessor, and of the word that it has found.
    (word, predecessor), (seen, found) = ((_orthogonal(size, width), _orthogonal(size, width)) for _ in range(2))
    for number, attention in enumerate(layers):
        whole = _orthogonal(width, width)
        copies = number >= len(layers) - _COPYING_LAYERS
        for head in range(heads):
            rows = slice(head * size, (head + 1) * size)
            read, written, loud = _orthogonal(size, width), _orthogonal(size, width), _QUIET
            query = key = _orthogonal(size, width)
            if copies:
                read, written, loud = whole[rows], whole[rows], _SAID
                query, key = (word, predecessor) if head < 2 else (torch.zeros_like(found), found)
            elif head < 2:
                query = key = torch.zeros_like(query)
                read, written, loud = (word, predecessor, _LOUD) if number == head == 0 else (read, written, loud)
                _look(attention, rows.start, 1 + head, _LOOK)
            elif number and head == 2:
                query = key = predecessor
                read, written, loud = seen, found, _LOUD
            elif number:
                query, key = word, predecessor
            if not copies and (head == 2 or (head == 3 and number == 0)):
                _look(attention, rows.start, 0, -_ELSEWHERE)
            _look_for(attention, rows, query, key)
            if copies and head > 1:
                bias = (seen @ asked)[_TURNED:]
                attention.q_proj.bias[rows][_TURNED:] = _ASKED * bias / bias.norm() * size**0.25
            attention.v_proj.weight[rows] = read
            attention.o_proj.weight[:, rows] = loud * written.T


def _look_for(attention: Any, rows: slice, query: Tensor, key: Tensor) -> None:
    """Queries and keys that match wherever they stand; the scale is against attention's own division."""
    for layer, weight in ((attention.q_proj, query), (attention.k_proj, key)):
        layer.weight[rows] = _MATCH**0.5 * len(weight) ** 0.25 * weight
        layer.weight[rows][:_TURNED] *= 0.02


def _look(attention: Any, first: int, distance: int, score: float) -> None:
    """Biases of queries and keys whose product is score · Σ_i cos θ_i(Δ - distance) between words Δ apart."""
    pairs = _TURNED // 2
    angles = distance * _TURNS_BASE ** (-torch.arange(pairs) / pairs)
    strength = abs(score) ** 0.5 * attention.head_dim**0.25
    attention.q_proj.bias[first : first + pairs] = strength if score > 0 else -strength
    attention.k_proj.bias[first : first + pairs] = strength * angles.cos()
    attention.k_proj.bias[first + pairs : first + 2 * pairs] = strength * angles.sin()


def _orthogonal(rows: int, columns: int) -> Tensor:
    return nn.init.orthogonal_(torch.empty(rows, columns))
