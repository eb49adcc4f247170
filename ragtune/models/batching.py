"""Texts to padded batches of token ids: tokenised in a thread of its own while a model computes, sorted by length."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

# Tokens per forward pass: on a CPU what its cache holds, on a GPU what keeps it busy.
_TOKENS_ON_CPU = 2048
_TOKENS_ON_GPU = 65536
_BATCHES_AHEAD = 8  # tokenised at once, where texts have 128 tokens
_COMMON_TOKENS = 128

A = TypeVar("A")
B = TypeVar("B")
Item = tuple[str, ...]
Rows = npt.NDArray[np.int64]
Tokens = Sequence[Sequence[int]]


def batches(
    items: Sequence[Item], tokenize: Callable[[Sequence[Item]], Tokens], device: torch.device, batch_size: int = 0
) -> Iterator[tuple[Rows, Tokens]]:
    """All texts, those of about one length together, so that hardly any padding is needed.

    Args:
        items: texts, or pairs of texts.
        tokenize: gives their token ids; called in another thread, for the next texts while a batch is computed.
        device: decides how many tokens are a batch.
        batch_size: texts per batch; 0 means as many as suit the device.

    Yields:
        The positions of a batch's texts in `items`, (n,), and their token ids, the longest first.
    """
    tokens_per_batch = _TOKENS_ON_CPU if device.type == "cpu" else _TOKENS_ON_GPU
    at_once = _BATCHES_AHEAD * (batch_size or tokens_per_batch // _COMMON_TOKENS)
    by_characters = np.argsort([-sum(map(len, item)) for item in items], kind="stable")
    blocks = [by_characters[start : start + at_once] for start in range(0, len(items), at_once)]
    for block, tokens in zip(
        blocks, _ahead(tokenize, ([items[i] for i in block.tolist()] for block in blocks)), strict=True
    ):
        by_tokens = np.argsort([-len(ids) for ids in tokens], kind="stable")
        first = 0
        while first < len(block):
            count = batch_size or max(1, tokens_per_batch // len(tokens[by_tokens[first]]))
            chosen = by_tokens[first : first + count]
            yield block[chosen], [tokens[i] for i in chosen.tolist()]
            first += count


def pad(tokens: Tokens, padding: int = 0) -> tuple[Tensor, Tensor]:
    """Token ids of n texts to (n, longest) ids and mask, 1 for a token, on the CPU."""
    lengths = np.fromiter(map(len, tokens), np.int64, len(tokens))
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.full(mask.shape, padding)
    ids[mask] = np.fromiter(chain.from_iterable(tokens), np.int64, lengths.sum())
    return torch.from_numpy(ids), torch.from_numpy(mask.astype(np.int64))


def _ahead(function: Callable[[A], B], arguments: Iterable[A]) -> Iterator[B]:
    """As `map`, with the next result computed in a thread while the last one is used."""
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
        upcoming: Future[B] | None = None
        for argument in arguments:
            current, upcoming = upcoming, thread.submit(function, argument)
            if current is not None:
                yield current.result()
        if upcoming is not None:
            yield upcoming.result()
