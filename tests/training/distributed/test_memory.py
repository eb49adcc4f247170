import pytest
import torch
from torch import nn

from ragtune.errors import TrainingError
from ragtune.training.distributed import memory
from ragtune.training.distributed.memory import check_memory, free_memory

CPU = torch.device("cpu")


def layer():
    return nn.Linear(1000, 1000, bias=False)  # 4 MB


@pytest.mark.parametrize(
    ("free", "parts", "sharing"), [(12_000_000, 1, 1), (6_000_000, 2, 1), (24_000_000, 1, 2), (12_000_000, 2, 2)]
)
def test_gradients_and_moments_must_fit(monkeypatch, free, parts, sharing):
    monkeypatch.setattr(memory, "free_memory", lambda device: free)
    check_memory(layer(), CPU, parts, sharing)
    monkeypatch.setattr(memory, "free_memory", lambda device: free - 1)
    with pytest.raises(TrainingError, match=r"need 0\.0 GB .* more memory, or pray$"):
        check_memory(layer(), CPU, parts, sharing, ", or pray")


def test_what_is_frozen_needs_none_more(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 0)
    check_memory(layer().requires_grad_(False), CPU)


def test_weights_that_are_elsewhere_count_too(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 15_999_999)
    with torch.device("meta"):
        far = layer()
    with pytest.raises(TrainingError):
        check_memory(far, CPU)


def test_a_model_that_no_machine_holds_is_refused():
    with torch.device("meta"):
        huge = nn.Linear(10**6, 10**7)  # 40 TB
    with pytest.raises(TrainingError, match=r"cpu: weights, .* need 160000\.\d GB"):
        check_memory(huge, CPU)


def test_blocks_that_the_gpus_allocator_caches_are_free(monkeypatch):
    """As they are left by the stage before; the GPU's own answers are stood in for."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3_000, 80_000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 70_000)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 20_000)
    assert free_memory(torch.device("cuda", 0)) == 53_000


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_tensor_that_is_let_go_of_is_free_again_on_a_gpu():
    device = torch.device("cuda", 0)
    before = free_memory(device)
    block = torch.empty(1 << 30, dtype=torch.uint8, device=device)
    assert free_memory(device) < before - (1 << 29)
    del block
    assert free_memory(device) > before - (1 << 26)


def test_a_containers_limit_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert free_memory(CPU) > 10**6
    (tmp_path / "memory.max").write_text("5000000\n")
    (tmp_path / "memory.current").write_text("4000000\n")
    (tmp_path / "memory.stat").write_text("anon 1500000\nfile 2500000\n")
    assert free_memory(CPU) == 3_500_000
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory(CPU) > 10**6
