"""The device that the boxes embed on; the neighbours that would need a knowledge base are left out."""

import json
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from tiny_models import save_tiny_parts

from components.check_answerability import check_answerability
from components.ingest_passages import ingest_passages
from ragtune.knowledge.pointers import POINTER, Pointer, from_text
from ragtune.models.encoders import Encoder

PLACE = SimpleNamespace(path="")
TOLD = {"path": "base", "version": "kb_v1", "content_hash": "c", "encoder_fingerprint": "e"}


@pytest.fixture
def embedded_on(monkeypatch):
    """The devices of the encoders that were handed on."""
    devices = []

    def handed_on(_, second, third, *args, **options):
        devices.append(next(part for part in (second, third) if isinstance(part, Encoder)).device.type)
        return {}

    monkeypatch.setattr("ragtune.models.devices.best_device", lambda: "meta")  # any that is not the CPU
    monkeypatch.setattr("ragtune.knowledge.workspace.ingest_into_workspace", handed_on)
    monkeypatch.setattr("ragtune.knowledge.opening.open_to_read", lambda place: nullcontext())
    monkeypatch.setattr("ragtune.questions.answerability.split_by_answerability", handed_on)
    return devices


def test_passages_are_embedded_on_the_best_device(tmp_path, embedded_on):
    _, encoder, _ = save_tiny_parts(tmp_path, ["a b c"])
    (tmp_path / POINTER).write_text(json.dumps(TOLD))
    pointer = SimpleNamespace(path=str(tmp_path))
    told = ingest_passages.python_func(PLACE, pointer, None, passage_encoder=encoder, workspace="")
    assert from_text(told[0]) == Pointer(**TOLD)
    assert embedded_on == ["meta"]


def test_questions_are_embedded_on_the_best_device(tmp_path, embedded_on):
    encoder, _, _ = save_tiny_parts(tmp_path, ["a b c"])
    told = {"knowledge_base": json.dumps(TOLD), "question_encoder_fingerprint": ""}
    check_answerability.python_func(PLACE, PLACE, PLACE, None, question_encoder=encoder, **told)
    assert embedded_on == ["meta"]
