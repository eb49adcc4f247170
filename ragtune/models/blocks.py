"""A transformer's blocks: the units that FSDP shards and that activation checkpointing computes twice."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def transformer_blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules of every ModuleList that stands in no other."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from transformer_blocks(child)


def checkpoint_activations(backbone: Any, **options: Any) -> None:
    """Compute each block's activations again in the backward pass instead of keeping them.

    Done here for the architectures where transformers does not know how, such as DPR and MPNet.

    Args:
        backbone: of transformers.
        options: as its `activation_checkpointing_enable` takes them.
    """
    if backbone.supports_gradient_checkpointing:
        backbone.activation_checkpointing_enable(**options)
        return
    how = {"use_reentrant": False} | (options.get("activation_checkpointing_kwargs") or {})
    for block in transformer_blocks(backbone):
        block.forward = partial(_checkpointed, block, block.forward, how)


def _checkpointed(block: nn.Module, forward: Callable[..., Any], how: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
    if block.training and torch.is_grad_enabled():
        return checkpoint(forward, *args, **how, **kwargs)
    return forward(*args, **kwargs)
