"""How likely a generator finds each token of an answer, computed for real tokens and hardly for padding.

Contexts of like length share a forward pass, and the output layer, which for a short answer costs more than the whole
decoder, sees only positions that hold a label. Neither changes the result.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from ragtune.models.losses import IGNORED, token_log_likelihoods

# Context tokens a forward pass, padding included: on a CPU what its caches hold, on a GPU what keeps it busy.
_TOKENS_ON_CPU = 4096
_TOKENS_ON_GPU = 16384


def label_log_likelihoods(
    generator: Any, input_ids: Tensor, attention_mask: Tensor, decoder_input_ids: Tensor, labels: Tensor
) -> Tensor:
    """log p(y_t | y_<t, context) of every label, with gradient to the generator; 0 where the label is -100.

    Args:
        generator: an encoder-decoder of transformers'.
        input_ids, attention_mask: of the contexts, (contexts, length), padded at the end.
        decoder_input_ids: (contexts, answer length).
        labels: (contexts, answer length), padded with -100.

    Returns:
        (contexts, answer length), in nats.
    """
    groups = _groups(attention_mask, together=_is_sharded(generator))
    found = []
    for rows, longest in groups:
        contexts, mask = input_ids[rows, :longest], attention_mask[rows, :longest]
        found.append(_of_group(generator, contexts, mask, decoder_input_ids[rows], labels[rows]))
    if len(groups) == 1:
        return found[0]
    order = torch.cat([rows for rows, _ in groups])
    return torch.cat(found)[order.argsort()]


def _of_group(
    generator: Any, input_ids: Tensor, attention_mask: Tensor, decoder_input_ids: Tensor, labels: Tensor
) -> Tensor:
    places = (labels != IGNORED).flatten().nonzero().flatten()
    with _only_at(places, labels.shape, generator.get_output_embeddings()):
        logits = generator(
            input_ids=input_ids, attention_mask=attention_mask, decoder_input_ids=decoder_input_ids, use_cache=False
        ).logits
    if logits.dim() == 3:  # an output layer of another kind has seen all positions
        logits = logits.flatten(0, 1)[places]
    log_likelihoods = token_log_likelihoods(logits, labels.flatten()[places])
    return log_likelihoods.new_zeros(labels.numel()).index_copy(0, places, log_likelihoods).view(labels.shape)


@contextmanager
def _only_at(places: Tensor, shape: torch.Size, output_layer: nn.Module) -> Iterator[None]:
    """Inside the block the output layer turns (rows, length, width) into (len(places), vocabulary)."""

    def select(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        states, *others = inputs
        return (states.flatten(0, 1)[places] if states.shape[:-1] == shape else states, *others)

    hook = output_layer.register_forward_pre_hook(select)
    try:
        yield
    finally:
        hook.remove()


def _is_sharded(generator: nn.Module) -> bool:
    """Whether its weights are spread over processes, which must then call its layers equally often."""
    return any(isinstance(module, FSDPModule) for module in generator.modules())


def _groups(attention_mask: Tensor, together: bool = False) -> list[tuple[Tensor, int]]:
    """Rows of like length, and the longest of each group; all rows as they are where one forward pass takes them.

    With `together` one always does.
    """
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
