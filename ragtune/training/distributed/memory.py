"""A check before the first step that the training fits into memory."""

from pathlib import Path

import psutil
import torch
from torch import nn

from ragtune.errors import TrainingError

_MOMENTS = 2  # AdamW's, of the parameter's own size
_CGROUP = Path("/sys/fs/cgroup")  # a container's own limit, which the machine's figures do not show


def check_memory(module: nn.Module, device: torch.device, parts: int = 1, sharing: int = 1, hint: str = "") -> None:
    """Check that gradients and the optimizer's moments have room beside the weights; activations come on top.

    Args:
        module: what is trained, on its device already or in main memory.
        device: where it is to be trained.
        parts: over how many processes it is spread.
        sharing: how many processes take from the same memory.
        hint: what else helps, to end the message with.

    Raises:
        TrainingError: they have not.
    """
    needed = 0
    for parameter in module.parameters():
        size = parameter.numel() * parameter.element_size()
        needed += 0 if parameter.device.type == device.type else size
        needed += (1 + _MOMENTS) * size if parameter.requires_grad else 0
    needed = needed * sharing // parts
    free = free_memory(device)
    if free < needed:
        raise TrainingError(
            f"{device}: weights, gradients and AdamW's moments need {needed / 1e9:.1f} GB besides what is there "
            f"already, but {free / 1e9:.1f} GB are free; train a smaller model, freeze one of its parts, or give it "
            f"more memory{hint}"
        )


def free_memory(device: torch.device) -> int:
    """In bytes: of a GPU, or what this process may still take of main memory."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached  # the allocator hands its cached blocks out again
    available = psutil.virtual_memory().available
    try:
        limit, used = (int((_CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        stat = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
        return min(available, limit - used + int(stat["file"]))  # files in its cache make room when asked
    except (OSError, ValueError, KeyError):  # no such group, or "max"
        return available
