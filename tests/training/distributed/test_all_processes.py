"""Two processes are in test_processes.py, which trains with them."""

import torch.distributed as dist

from ragtune.training.distributed.all_processes import of_all_processes


def test_one_process_has_its_own_value_with_and_without_a_group():
    assert of_all_processes((1, "a")) == [(1, "a")]
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        assert of_all_processes((1, "a")) == [(1, "a")]
    finally:
        dist.destroy_process_group()
