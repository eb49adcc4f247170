"""The devices that passages are embedded on beside a training, and how their process gives way to it."""

import os
from dataclasses import dataclass

import torch
from joblib import cpu_count
from torch import nn

from ragtune.models.encoders import Encoder
from ragtune.training.distributed.memory import free_memory

_NICER = 5  # than the training
_NICEST = 19
_CPU_SHARE = 4  # of which the refresh takes one part
_OF_TORCHRUN = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
_TOKENS = 65_536  # of a batch on a GPU
_FLOATS_PER_UNIT = 12  # at once, per token and unit of width: the feed-forward layer's input and output, and some more
_CONTEXT_BYTES = 1 << 30  # CUDA's own
_OUTLASTS = 3  # times `refresh_every` that a refresh may take without a word
_ROOM = 2  # free memory per byte needed, as the training has peaks


@dataclass(frozen=True)
class RefreshDevices:
    """The devices on which a refresh embeds passages.

    Attributes:
        names: of torch's devices; several share the passages.
        limit: bytes that it may take of each, where it was chosen though the training computes on it; 0 is no limit.
    """

    names: tuple[str, ...]
    limit: int = 0

    @property
    def on_cpu(self) -> bool:
        return self.names == ("cpu",)


def choose_devices(wanted: str, gpus: int, training: int, own: str, free: int, needed: int) -> RefreshDevices:
    """Take those that are wanted, else all GPUs that do not train, else the training's where it has room, else the CPU.

    Args:
        wanted: such as "cuda:1" or "cuda:2,cuda:3"; "" to choose.
        gpus: of this machine.
        training: processes that train on it, which take the first GPUs.
        own: device of the first of them.
        free: bytes of that device.
        needed: bytes that embedding takes.
    """
    if wanted:
        return RefreshDevices(tuple(wanted.split(",")))
    if gpus > training:
        return RefreshDevices(tuple(f"cuda:{number}" for number in range(training, gpus)))
    if own.startswith("cuda") and free >= _ROOM * needed:
        return RefreshDevices((own,), needed)
    return RefreshDevices(("cpu",))


def devices_now(wanted: str, encoder: Encoder, own: torch.device) -> tuple[RefreshDevices, str]:
    """Choose on this machine, as it is after some steps of training; and what to say of it."""
    gpus, training = torch.cuda.device_count(), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    free, needed = (torch.cuda.mem_get_info(own)[0] if own.type == "cuda" else 0), needed_bytes(encoder)
    chosen = choose_devices(wanted, gpus, training, _name(own), free, needed)
    told = f"refresh: passages are embedded on {', '.join(chosen.names)}"
    if chosen.limit:
        told += f", which trains too: {free / 1e9:.1f} GB of it are free, and {needed / 1e9:.1f} GB may be taken"
    elif chosen.on_cpu and own.type == "cuda" and not wanted:
        told += (
            f", as no GPU is idle and of the {_ROOM * needed / 1e9:.1f} GB that sharing {own} takes only "
            f"{free / 1e9:.1f} GB are free; refresh_device names another"
        )
    return chosen, told


def idle_gpus(encoder: Encoder, own: torch.device) -> list[str]:
    """All GPUs of this machine with room for an encoder, once no process trains any more; at least `own`."""
    if own.type != "cuda":
        return [str(own)]
    others = (torch.device("cuda", number) for number in range(torch.cuda.device_count()))
    roomy = [_name(other) for other in others if free_memory(other) >= needed_bytes(encoder)]
    return list(dict.fromkeys([_name(own), *roomy]))


def needed_bytes(encoder: nn.Module) -> int:
    """Memory of a GPU that embedding takes: weights, once more in bfloat16, a batch's activations, CUDA's own."""
    weights = sum(parameter.numel() * parameter.element_size() for parameter in encoder.parameters())
    width = max((parameter.shape[-1] for parameter in encoder.parameters() if parameter.dim() > 1), default=0)
    return weights * 3 // 2 + _TOKENS * _FLOATS_PER_UNIT * width + _CONTEXT_BYTES


def too_slow(step: int, begun: int | None, every: int, devices: RefreshDevices | None) -> str:
    """The warning of a refresh that outlasts `refresh_every` several times, and what to do; "" where it does not.

    Args:
        step: that training is at.
        begun: the snapshot's that is being worked on; None where there is none.
        every: `refresh_every`.
        devices: of the refresh.
    """
    if begun is None or devices is None or step - begun < _OUTLASTS * every:
        return ""
    return (
        f"step {step}: the refresh of step {begun} has gone on for {step - begun} steps, "
        f"{(step - begun) / every:.0f} times refresh_every={every}, on {', '.join(devices.names)}: the knowledge base "
        "is older than was asked for. Give it a GPU of its own (fewer processes than gpus, or refresh_device), raise "
        "refresh_every, or set max_staleness so that training waits"
    )


def give_way(pid: int) -> None:
    """Lower a process's priority below this one's; never raise it, which takes a privilege."""
    here, there = (os.getpriority(os.PRIO_PROCESS, process) for process in (0, pid))
    os.setpriority(os.PRIO_PROCESS, pid, max(there, min(here + _NICER, _NICEST)))


def environment(devices: RefreshDevices) -> dict[str, str]:
    """This process's, without torchrun's own; on the CPU with a part of its cores."""
    own = {name: value for name, value in os.environ.items() if name not in _OF_TORCHRUN}
    if devices.on_cpu:
        own["OMP_NUM_THREADS"] = str(max(1, cpu_count() // _CPU_SHARE))
    return own | {"PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false" if devices.on_cpu else "true"}


def limit_memory(devices: RefreshDevices) -> None:
    """Hold this process to what it may take of each GPU."""
    if devices.limit:
        for name in devices.names:
            total = torch.cuda.get_device_properties(name).total_memory
            torch.cuda.set_per_process_memory_fraction(min(1.0, devices.limit / total), torch.device(name))


def _name(device: torch.device) -> str:
    return f"cuda:{device.index or 0}" if device.type == "cuda" else str(device)
