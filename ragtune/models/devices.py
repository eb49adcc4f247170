"""The devices and the precision to compute in, and work that several devices share."""

import copy
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)
R = TypeVar("R")


def best_device() -> str:
    """The first GPU, where there is one; else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def all_devices() -> list[str]:
    """Every GPU, where there is one; else the CPU."""
    return [f"cuda:{number}" for number in range(torch.cuda.device_count())] or ["cpu"]


def halved_on_gpu(device: torch.device) -> torch.autocast:
    """A context that computes in bfloat16 on a GPU that does so, and changes nothing elsewhere."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda" and computes_in_bfloat16(device))


def computes_in_bfloat16(device: torch.device) -> bool:
    """True where a device multiplies bfloat16 faster than float32: most GPUs, and CPUs with AMX or AVX-512 BF16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def replicas(model: M, devices: Sequence[str]) -> list[M]:
    """A model on all of some devices; it is moved to the first, and copied to the others."""
    return [model.to(devices[0]), *(copy.deepcopy(model).to(device) for device in devices[1:])]


def shared_out(models: Sequence[M], work: Callable[[M, range], R], count: int) -> Iterator[tuple[range, R]]:
    """Let equal models share the items 0 to `count`, each in a thread: of n models the i-th gets i, i + n, i + 2n …

    Yields:
        Every model's items and what `work` made of them.
    """
    shares = [range(i, count, len(models)) for i in range(len(models))]
    with ThreadPoolExecutor(len(models), thread_name_prefix="device") as pool:
        yield from zip(shares, pool.map(work, models, shares), strict=True)
