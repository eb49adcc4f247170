"""What one process of a run does for all of them."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch.distributed as dist
from accelerate.utils import broadcast_object_list


@contextmanager
def of_first_process(process: int, service: AbstractContextManager[Any]) -> Iterator[Any]:
    """What the first process runs for all of them, who must all enter; it goes on until the last one has left it."""
    with ExitStack() as stack:
        announced = None if process else stack.enter_context(service)
        (announced,) = broadcast_object_list([announced])
        yield announced
        if dist.is_initialized():
            dist.barrier()
