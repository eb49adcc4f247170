import sys
from pathlib import Path

import pytest
import torch

from ragtune.evaluation import asking
from ragtune.evaluation.spread import answer_on
from ragtune.models import devices
from ragtune.models.devices import halved_on_gpu

sys.path.append(str(Path(__file__).parents[1] / "models"))
from tiny_parts import QUESTIONS, rag_model


def test_questions_are_shared_by_all_devices_and_come_back_in_their_order():
    model, used = rag_model(), []

    def answer(own, share):
        used.append(own)
        return [f"{n}" for n in share]

    assert answer_on(["cpu", "cpu", "cpu"], model, answer, 7) == [str(n) for n in range(7)]
    assert len({id(own) for own in used}) == 3 and model in used


def test_more_devices_than_questions_leave_none_out():
    assert answer_on(["cpu"] * 3, rag_model(), lambda own, share: ["x"] * len(share), 2) == ["x", "x"]


def test_closed_book_answers_are_the_same_on_several_devices(monkeypatch):
    model, questions = rag_model(init_std=0.8), QUESTIONS * 3
    alone = asking.ask_closed_book(model, questions)
    monkeypatch.setattr(asking, "all_devices", lambda: ["cpu", "cpu"])
    monkeypatch.setattr(asking, "_QUESTIONS_A_DEVICE", 2)
    assert asking.ask_closed_book(model, questions) == alone


@pytest.mark.parametrize(
    ("device", "able", "halved"), [("cuda", True, True), ("cuda", False, False), ("cpu", True, False)]
)
def test_only_gpus_that_compute_in_bfloat16_do(monkeypatch, device, able, halved):
    monkeypatch.setattr(devices, "computes_in_bfloat16", lambda device: able)
    monkeypatch.setattr(devices.torch, "autocast", lambda *given, enabled: (given, enabled))
    assert halved_on_gpu(torch.device(device)) == ((device, torch.bfloat16), halved)
