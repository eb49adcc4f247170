"""The device and the precision to compute in."""

import torch


def best_device() -> str:
    """The first GPU, where there is one; else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def computes_in_bfloat16(device: torch.device) -> bool:
    """True where a device multiplies bfloat16 faster than float32: most GPUs, and CPUs with AMX or AVX-512 BF16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
