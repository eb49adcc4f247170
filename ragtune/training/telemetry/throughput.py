"""Compute of a step: the generator's tokens, model FLOPs, and their share of the device's peak (MFU).

Source: Chowdhery et al. 2022, appendix B, https://arxiv.org/abs/2204.02311
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ragtune.models.generators.base import linear_weights
from ragtune.training.trained import TrainedParts

_FORWARD = 2  # FLOPs a weight and token; the backward pass takes as many for inputs, and as many for trained weights
_ENCODERS = {"question_encoder": "question_attention_mask", "passage_encoder": "passage_attention_mask"}
# Dense bfloat16 FLOPs a second, from NVIDIA's data sheets; the first name that stands in the device's counts.
_PEAKS = {
    "H200": 989e12,
    "H100 NVL": 835e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
}


@dataclass(frozen=True)
class Work:
    """The compute of a batch.

    Attributes:
        tokens: of the generator, contexts and answers together; padding does not count.
        flops: that the weights ask for, forward and backward; attention's own products, padding, and what activation
            checkpointing computes again do not count.
    """

    tokens: int
    flops: float


class WorkCounter:
    """Counts by the weights of the linear layers, each multiplied with the tokens that it sees."""

    def __init__(self, parts: TrainedParts):
        """Take the counts of the weights; a part that does not learn in a step has no backward pass there."""
        self._parts = parts
        self._by_prompt, self._by_label = 0, 0
        self._n_docs = parts.rag.config.n_docs
        if "generator" in parts.method.parts:
            self._by_prompt, self._by_label = parts.rag.generator.weights_per_token()
        self._encoders = {
            name: linear_weights(part) for name in _ENCODERS if (part := getattr(parts, name, None)) is not None
        }
        self._learning = {name: _flops(part) for name, part in parts.named_children()}

    def count(self, inputs: Mapping[str, Tensor]) -> Work:
        """The work in one batch of `TrainedParts.forward`'s arguments; cheapest while they are on the CPU."""
        contexts = labels = 0
        if "context_attention_mask" in inputs:
            contexts = int(inputs["context_attention_mask"].sum())
            docs = len(inputs["context_attention_mask"]) // len(inputs["labels"])
            if docs > self._n_docs:  # candidates, of which so many are read
                contexts, docs = contexts * self._n_docs // docs, self._n_docs
            labels = int((inputs["labels"] >= 0).sum()) * docs
        flops = self._per_token("generator") * (contexts * self._by_prompt + labels * self._by_label)
        for name, weights in self._encoders.items():
            if (mask := _ENCODERS[name]) in inputs:
                flops += self._per_token(name) * weights * int(inputs[mask].sum())
        return Work(contexts + labels, float(flops))

    def _per_token(self, name: str) -> float:
        """FLOPs a weight and token of a part in this step."""
        method, step = self._parts.method, self._parts.step
        if name not in method.computes_at(step):
            return 0.0
        return self._learning[name] if name in method.trains_at(step) else _FORWARD


def peak_flops(device: torch.device) -> float:
    """Dense bfloat16 FLOPs a second that a device could do; 0 where that is not known, as for every CPU."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return peak_of(name)


def peak_of(device_name: str) -> float:
    """As `peak_flops`, by the name that CUDA gives the device."""
    return next((peak for name, peak in _PEAKS.items() if name in device_name), 0.0)


def _flops(module: nn.Module) -> float:
    trained = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
    if not trained:
        return _FORWARD
    return _FORWARD * (2 + trained / sum(parameter.numel() for parameter in module.parameters()))
