"""Decoding that families of generators share: beam search without a model's own wishes, and candidates as batches."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from ragtune.models.generators.base import Tokens
from ragtune.models.losses import IGNORED

# Logits that are held at once while candidates are scored: 256 MiB in float32.
_LOGITS_AT_ONCE = 1 << 26
_SPECIAL_TOKENS = (
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "decoder_start_token_id",
    "forced_bos_token_id",
    "forced_eos_token_id",
)


@contextmanager
def only_special_tokens(backbone: Any, **others: Any) -> Iterator[None]:
    """Inside, decoding knows the model's special tokens and `others`, and nothing else of its generation_config.

    That was written for another task, such as summaries of 56 tokens at least, and transformers takes from it whatever
    a call does not name.
    """
    own = backbone.generation_config
    special = {name: getattr(own, name) for name in _SPECIAL_TOKENS}
    backbone.generation_config = GenerationConfig(**special | others)
    try:
        yield
    finally:
        backbone.generation_config = own


def end_tokens(generation_config: GenerationConfig) -> set[int]:
    """The tokens that end an answer; a model may have several, or none."""
    ends = generation_config.eos_token_id
    return set(ends) if isinstance(ends, list) else {ends} - {None}


def until_end(tokens: list[int], ends: set[int]) -> Tokens:
    """All up to the first end token, behind which padding stands."""
    length = next((position + 1 for position, token in enumerate(tokens) if token in ends), len(tokens))
    return tuple(tokens[:length])


def padded_candidates(candidates: Sequence[Sequence[Tokens]]) -> Tensor:
    """Every prompt's candidates as labels, (prompts, most candidates, longest candidate), padded with -100."""
    most, longest = max(map(len, candidates)), max(len(tokens) for found in candidates for tokens in found)
    labels = torch.full((len(candidates), most, longest), IGNORED)
    for prompt, found in enumerate(candidates):
        for number, tokens in enumerate(found):
            labels[prompt, number, : len(tokens)] = torch.tensor(tokens)
    return labels


def one_each(candidates: Sequence[Sequence[Tokens]], logits: int) -> Iterator[tuple[list[int], int]]:
    """Candidates to score together, one a prompt, so that a prompt's own can share what was computed of it.

    Args:
        candidates: one list a prompt.
        logits: of one candidate; bounds how many are scored at once.

    Yields:
        Rows of prompts and the number of their candidate. A block's rows with number 0 come first, then, with 1, the
        first of them that have a second candidate, and so on.
    """
    at_once = max(1, _LOGITS_AT_ONCE // logits)
    most_first = sorted(range(len(candidates)), key=lambda prompt: -len(candidates[prompt]))
    for start in range(0, len(most_first), at_once):
        rows = most_first[start : start + at_once]
        for number in range(len(candidates[rows[0]])):
            rows = [row for row in rows if len(candidates[row]) > number]
            yield rows, number
