import pytest

from ragtune.errors import TrainingError
from ragtune.models.rag import RagModel
from ragtune.training.methods.end2end import RagEnd2End
from ragtune.training.methods.rag import Rag
from ragtune.training.trained import TrainedParts


@pytest.fixture
def shared(still_world):
    """A model whose question encoder is its passage encoder too."""
    model = RagModel.from_parts(*still_world.parts.values())
    return RagModel(model.question_encoder, model.question_encoder, model.generator, model.config)


def trainable(module):
    return any(parameter.requires_grad for parameter in module.parameters())


def test_one_encoder_for_both_sides_is_not_frozen_without_a_word(shared):
    assert trainable(shared.question_encoder)
    with pytest.raises(TrainingError, match="one encoder for both sides, of which this method trains the question"):
        TrainedParts(shared, Rag())


def test_one_encoder_for_both_sides_is_trained_as_both(shared):
    assert trainable(TrainedParts(shared, RagEnd2End()).question_encoder)


def test_parts_that_the_method_does_not_train_are_frozen_and_left_out(still_world):
    model = RagModel.from_parts(*still_world.parts.values())
    parts = TrainedParts(model, Rag(), frozenset({"question_encoder"}))
    assert [trainable(part) for part in (model.question_encoder, model.passage_encoder, model.generator)] == [
        False,
        False,
        True,
    ]
    assert [name for name, _ in parts.named_children()] == ["generator", "question_encoder"]
