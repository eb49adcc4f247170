"""A value of each process of a run, known to all of them."""

from typing import TypeVar

import torch.distributed as dist

T = TypeVar("T")


def of_all_processes(value: T) -> list[T]:
    """Return the values of all processes, in their order; every process must call it with its own, any that pickles.

    Where there is one process, that is its value alone.
    """
    if not dist.is_initialized():
        return [value]
    everyone = [value] * dist.get_world_size()
    dist.all_gather_object(everyone, value)
    return everyone
