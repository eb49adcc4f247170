import pytest

from ragtune.errors import TrainingError
from ragtune.models.rag import RagModel
from ragtune.training.methods.end2end import RagEnd2End
from ragtune.training.methods.rag import Rag
from ragtune.training.trained import TrainedParts

QUIET = {"report_to": "none", "n_docs": 3, "temperature": 0.05}


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


def test_biases_and_norms_do_not_decay_and_each_part_has_its_rate(make_trainer):
    rates = {"learning_rate": 1e-3, "question_encoder_learning_rate": 1e-4, "passage_encoder_learning_rate": 1e-5}
    trainer = make_trainer(max_steps=1, weight_decay=0.1, method="rag-end2end", **QUIET, **rates)
    groups = trainer.create_optimizer().param_groups
    told = {id(weight): (group["lr"], group["weight_decay"]) for group in groups for weight in group["params"]}
    rate = {"generator": 1e-3, "question_encoder": 1e-4, "passage_encoder": 1e-5}
    learning = {name: weight for name, weight in trainer.model.named_parameters() if weight.requires_grad}
    assert {name.partition(".")[0] for name in learning} == set(rate)
    for name, weight in learning.items():
        decay = 0.0 if weight.dim() == 1 or "bias" in name else 0.1  # vectors are biases and norms
        assert told.pop(id(weight)) == (rate[name.partition(".")[0]], decay), name
    assert not told
