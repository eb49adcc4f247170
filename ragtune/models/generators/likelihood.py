"""Two ways to spend almost no compute on padding, for any family of generators; neither changes a result.

Prompts of like length share a forward pass, and the output layer, which for a short answer costs more than the whole
decoder, sees only positions that hold a label.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

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


def groups_of_like_length(attention_mask: Tensor, generator: nn.Module) -> list[tuple[Tensor, int]]:
    """Rows of like length, and the longest of each group; all rows as they are where one forward pass takes them.

    One always does where the generator's weights are spread over processes, which must call its layers equally often.
    """
    together = any(isinstance(module, FSDPModule) for module in generator.modules())
    rows, longest = attention_mask.shape
    at_once = _TOKENS_ON_CPU if attention_mask.device.type == "cpu" else _TOKENS_ON_GPU
    everything = torch.arange(rows, device=attention_mask.device)
    if together or rows * longest <= at_once:
        return [(everything, longest)]
    lengths, order = attention_mask.sum(dim=1).sort(descending=True, stable=True)
    descending = lengths.tolist()
    groups, first = [], 0
    while first < rows:
        count = max(1, at_once // descending[first])
        groups.append((order[first : first + count], descending[first]))
        first += count
    return groups
