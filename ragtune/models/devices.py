"""The device and the precision to compute in."""

import torch


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
