"""Weights as part of a fingerprint, and how far a training has moved them."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ragtune.errors import ModelError

if TYPE_CHECKING:
    from hashlib import _Hash


def add_weights(digest: "_Hash", weights: Mapping[str, Tensor]) -> None:
    """Feed a digest with names, shapes and values, in the order of the names, whatever precision they are kept in."""
    for name, weight in sorted(weights.items()):
        digest.update(f"{name}{tuple(weight.shape)}".encode())
        digest.update(weight.detach().to("cpu", torch.float32).contiguous().numpy().data)


def relative_distance(one: nn.Module, other: nn.Module) -> float:
    """‖W − W'‖ / ‖W‖ over the weights that two modules of one architecture share by name; 0 where nothing moved.

    Args:
        one: W.
        other: W', such as the same module after a training.

    Raises:
        ModelError: a weight has another shape, or none is shared.
    """
    before, after = (dict(module.named_parameters()) for module in (one, other))
    moved = size = 0.0
    for name in before.keys() & after.keys():
        if before[name].shape != after[name].shape:
            shapes = f"{tuple(before[name].shape)} and {tuple(after[name].shape)}"
            raise ModelError(f"{name}: is of shape {shapes} in two models that should be one before and after")
        old, new = (state[name].detach().double().cpu() for state in (before, after))
        moved += float((new - old).square().sum())
        size += float(old.square().sum())
    if not size:
        raise ModelError("two modules without a weight in common: they are of two architectures")
    return math.sqrt(moved / size)
