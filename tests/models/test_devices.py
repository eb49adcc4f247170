import pytest
import torch
from tiny_parts import dpr_encoder

from ragtune.models.devices import best_device, computes_in_bfloat16


@pytest.mark.parametrize(("gpu", "device"), [(True, "cuda"), (False, "cpu")])
def test_a_gpu_is_taken_where_there_is_one(gpu, device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert best_device() == device


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx512_f": True, "avx512_bf16": False}, False)],
)
def test_bfloat16_is_for_cpus_that_multiply_it(capabilities, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert computes_in_bfloat16(torch.device("cpu")) == expected
    assert dpr_encoder("passage").precision == ("bfloat16" if expected else "float32")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_vectors_of_the_cpu():
    encoder = dpr_encoder("passage")
    texts = [f"text number {row} " * (row % 9 + 1) for row in range(2000)]
    expected = torch.from_numpy(encoder.encode(texts))
    found = torch.from_numpy(encoder.to("cuda").encode(texts))
    assert torch.cosine_similarity(found, expected).min() > 0.9999
