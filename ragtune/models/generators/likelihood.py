"""Two ways to spend almost no compute on padding, for any family of generators; neither changes a result.

Prompts of like length share a forward pass, and the output layer, which for a short answer costs more than the whole
decoder, sees only positions that hold a label.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from ragtune.models.losses import IGNORED, token_log_likelihoods

# Prompt tokens a forward pass, padding included: on a CPU what its caches hold, on a GPU what keeps it busy.
_TOKENS_ON_CPU = 4096
_TOKENS_ON_GPU = 16384


@contextmanager
def output_only_at(places: Tensor, shape: torch.Size, output_layer: nn.Module) -> Iterator[None]:
    """Inside the block the output layer turns (rows, length, width) into (len(places), vocabulary)."""

    def select(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        states, *others = inputs
        return (states.flatten(0, 1)[places] if states.shape[:-1] == shape else states, *others)

    hook = output_layer.register_forward_pre_hook(select)
    try:
        yield
    finally:
        hook.remove()


def logits_at(places: Tensor, shape: torch.Size, backbone: Any, **inputs: Tensor) -> Tensor:
    """Logits of a transformer at some places of its (rows, length) outputs, (len(places), vocabulary)."""
    with output_only_at(places, shape, backbone.get_output_embeddings()):
        logits = backbone(**inputs, use_cache=False).logits
    return logits if logits.dim() == 2 else logits.flatten(0, 1)[places]  # 3: an output layer of another kind


def likelihoods_by_group(
    labels: Tensor,
    groups: Sequence[tuple[list[int], int]],
    answer_lengths: Sequence[int],
    logits_of: Callable[[Tensor, int, Tensor], Tensor],
) -> Tensor:
    """log p of every label, one group of like length after the other.

    Args:
        labels: (rows, length), -100 where there is nothing to predict.
        groups: from `groups_of_like_length`.
        answer_lengths: labels of each row.
        logits_of: of a group's rows, (n,), its longest length, and the places of its labels in
            `labels[rows].flatten()`, (places,), makes the logits, (places, vocabulary).

    Returns:
        (rows, length), in nats; 0 where the label is -100.
    """
    found = []
    for chosen, longest in groups:
        rows = torch.tensor(chosen, device=labels.device)
        own = labels[rows]
        places = label_places(own, sum(answer_lengths[row] for row in chosen))
        log_likelihoods = token_log_likelihoods(logits_of(rows, longest, places), own.flatten()[places])
        found.append(log_likelihoods.new_zeros(own.numel()).index_copy(0, places, log_likelihoods).view(own.shape))
    if len(groups) == 1:
        return found[0]
    order = torch.tensor([row for chosen, _ in groups for row in chosen], device=labels.device)
    return torch.cat(found)[order.argsort()]


def known_lengths(inputs: Mapping[str, Tensor]) -> dict[str, list[int]]:
    """Tokens of each prompt and each answer of a batch on the CPU, as arguments of `RagModel.forward`."""
    if "labels" not in inputs or "context_attention_mask" not in inputs:
        return {}
    return {
        "context_lengths": inputs["context_attention_mask"].sum(dim=1).tolist(),
        "answer_lengths": (inputs["labels"] != IGNORED).sum(dim=1).tolist(),
    }


def label_places(labels: Tensor, count: int) -> Tensor:
    """The places in `labels.flatten()` that hold a label, ascending, (count,); `nonzero` would wait for the device."""
    return (labels == IGNORED).flatten().to(torch.uint8).argsort(stable=True)[:count]


def groups_of_like_length(
    attention_mask: Tensor, generator: nn.Module, lengths: Sequence[int] | None = None
) -> list[tuple[list[int], int]]:
    """Rows of like length, and the longest of each group; all rows as they are where one forward pass takes them.

    One always does where the generator's weights are spread over processes, which must call its layers equally often.
    `lengths` are the mask's sums; without them the device is waited for.
    """
    together = any(isinstance(module, FSDPModule) for module in generator.modules())
    rows, longest = attention_mask.shape
    at_once = _TOKENS_ON_CPU if attention_mask.device.type == "cpu" else _TOKENS_ON_GPU
    if together or rows * longest <= at_once:
        return [(list(range(rows)), longest)]
    if lengths is None:
        lengths = attention_mask.sum(dim=1).tolist()
    order = sorted(range(rows), key=lambda row: -lengths[row])
    groups: list[tuple[list[int], int]] = []
    first = 0
    while first < rows:
        longest = lengths[order[first]]
        chosen = order[first : first + max(1, at_once // longest)]
        groups.append((chosen, longest))
        first += len(chosen)
    return groups
