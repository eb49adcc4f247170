"""Services that one process of a run offers to all of them."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch.distributed as dist
from accelerate.utils import broadcast_object_list


@contextmanager
def of_first_process(process: int, service: AbstractContextManager[Any]) -> Iterator[Any]:
    """Run a service in the first process for all of them, which must all enter, until the last one has left."""
    with ExitStack() as stack:
        announced = None if process else stack.enter_context(service)
        (announced,) = broadcast_object_list([announced])
        yield announced
        if dist.is_initialized():
            dist.barrier()
