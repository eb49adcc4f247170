"""How much a step computes: the generator's tokens, model FLOPs, and what share of the device's peak they are (MFU).

Source: Chowdhery et al. 2022, appendix B, https://arxiv.org/abs/2204.02311
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ragtune.training.trained import TrainedParts

_FORWARD, _FORWARD_AND_BACKWARD = 2, 6  # FLOPs a weight and token
# Their inputs are the encoder's tokens, though they belong to the decoder: BART's, T5's and BERT's names.
_CROSS_KEYS_AND_VALUES = re.compile(r"(encoder_attn|EncDecAttention|crossattention)\..*(k|v|k_proj|v_proj|key|value)$")
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
    """What a batch costs.

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
        """Take the counts of the weights; a frozen part has no backward pass."""
        generator = parts.generator
        encoder, output = generator.get_encoder(), generator.get_output_embeddings()
        cross = sum(
            module.weight.numel()
            for name, module in generator.named_modules()
            if isinstance(module, nn.Linear) and _CROSS_KEYS_AND_VALUES.search(name)
        )
        self._by_context = _weights(encoder) + cross
        self._by_label = _weights(generator, without=output) - self._by_context + output.weight.numel()
        encoders = (("question", "question_encoder"), ("passage", "passage_encoder"))
        self._encoders = {
            f"{text}_attention_mask": _weights(part) * _flops(part)
            for text, name in encoders
            if (part := getattr(parts, name, None)) is not None
        }
        self._flops = _flops(generator)

    def count(self, inputs: Mapping[str, Tensor]) -> Work:
        """The work in one batch of `TrainedParts.forward`'s arguments; cheapest while they are on the CPU."""
        contexts = int(inputs["context_attention_mask"].sum())
        docs = len(inputs["context_attention_mask"]) // len(inputs["labels"])
        labels = int((inputs["labels"] >= 0).sum()) * docs
        flops = self._flops * (contexts * self._by_context + labels * self._by_label)
        flops += sum(cost * int(inputs[mask].sum()) for mask, cost in self._encoders.items() if mask in inputs)
        return Work(contexts + labels, float(flops))


def peak_flops(device: torch.device) -> float:
    """Dense bfloat16 FLOPs a second that a device could do; 0 where that is not known, as for every CPU."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return peak_of(name)


def peak_of(device_name: str) -> float:
    """As `peak_flops`, by the name that CUDA gives the device."""
    return next((peak for name, peak in _PEAKS.items() if name in device_name), 0.0)


def _weights(module: nn.Module, without: nn.Module | None = None) -> int:
    linear = (part for part in module.modules() if isinstance(part, nn.Linear) and part is not without)
    return sum(part.weight.numel() for part in linear)


def _flops(module: nn.Module) -> int:
    trained = any(parameter.requires_grad for parameter in module.parameters())
    return _FORWARD_AND_BACKWARD if trained else _FORWARD
