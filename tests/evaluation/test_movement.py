import math

import pytest
import torch
from tiny_models import save_tiny_parts

from ragtune.evaluation.movement import moved_parts
from ragtune.models.rag import RagModel

TEXTS = ["what is the capital of norway ?", "oslo"]


def test_a_part_that_learnt_has_moved_and_the_others_have_not(tmp_path):
    parts = save_tiny_parts(tmp_path / "base", TEXTS)
    base, trained = (RagModel.from_parts(*parts) for _ in range(2))
    with torch.no_grad():
        for weight in trained.question_encoder.parameters():
            weight *= 1.1
    moved = moved_parts(base, trained)
    assert moved == pytest.approx({"moved_question_encoder": 0.1, "moved_passage_encoder": 0, "moved_generator": 0})


def test_two_architectures_have_no_distance_to_tell(tmp_path):
    base = RagModel.from_parts(*save_tiny_parts(tmp_path / "base", TEXTS))
    other = RagModel.from_parts(*save_tiny_parts(tmp_path / "other", [*TEXTS, "more words than these"]))
    assert math.isnan(moved_parts(base, other)["moved_generator"])
