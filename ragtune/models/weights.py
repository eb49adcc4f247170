"""Weights as part of a fingerprint."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from hashlib import _Hash


def add_weights(digest: "_Hash", weights: Mapping[str, Tensor]) -> None:
    """Feed a digest with names, shapes and values, in the order of the names, whatever precision they are kept in."""
    for name, weight in sorted(weights.items()):
        digest.update(f"{name}{tuple(weight.shape)}".encode())
        digest.update(weight.detach().to("cpu", torch.float32).contiguous().numpy().data)
