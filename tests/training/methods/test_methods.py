"""The seam: a new method is a class and a line in `METHODS`, and every part of a run goes by what it says."""

import subprocess
import sys

import pytest
import torch

from ragtune.errors import TrainingError
from ragtune.models.rag import RagOutput
from ragtune.training.methods import METHODS
from ragtune.training.methods.base import Method
from ragtune.training.methods.rag import Rag

PARAMETERS = {"report_to": "none", "n_docs": 3, "temperature": 0.05, "learning_rate": 3e-3, "logging_steps": 1}


class InBatch(Method):
    """InfoNCE: of all gold passages of the batch, a question's own shall score highest."""

    trains = frozenset({"question_encoder", "passage_encoder"})
    needs_search = False
    best_by = "recall@1"

    def inputs(self, batch, found, tokens):
        ids = [passage.id for passage in tokens.prompts.passages]
        rows = torch.tensor([[ids.index(gold[0])] for gold in batch["gold_ids"]])
        questions = {name: batch[name] for name in ("question_input_ids", "question_attention_mask")}
        return questions | tokens.passages.build(rows.numpy())

    def loss(self, parts, inputs, step):
        questions = parts.question_encoder(inputs["question_input_ids"], inputs["question_attention_mask"])
        passages = parts.passage_encoder(inputs["passage_input_ids"], inputs["passage_attention_mask"])
        scores = questions @ passages.T / parts.rag.config.temperature
        loss = torch.nn.functional.cross_entropy(scores, inputs["passage_places"][:, 0])
        return RagOutput(loss=loss, metrics={"positive_score": scores.max(dim=1).values.mean()})


class InTurn(Rag):
    """The question encoder learns in even steps, the generator in odd ones."""

    def trains_at(self, step):
        return frozenset({"generator" if step % 2 else "question_encoder"})

    def loss(self, parts, inputs, step):
        output = super().loss(parts, inputs, step)
        learns, rests = parts.question_encoder, parts.generator
        if step % 2:
            learns, rests = rests, learns
        parts.seen = [*getattr(parts, "seen", []), (step, learns.training, rests.training)]
        return output


def losses(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def weights(module):
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()]).clone()


def test_a_new_method_trains_without_a_generator_and_is_judged_by_recall(make_trainer, monkeypatch):
    monkeypatch.setitem(METHODS, "in-batch", InBatch)
    settings = PARAMETERS | {"learning_rate": 5e-4, "temperature": 0.2, "per_device_train_batch_size": 24}
    trainer = make_trainer(method="in-batch", max_steps=12, eval_steps=6, **settings)
    parts = (trainer.rag.question_encoder, trainer.rag.passage_encoder, trainer.rag.generator)
    before = [weights(part) for part in parts]
    trainer.train()
    assert losses(trainer)[-1] < losses(trainer)[0] - 0.1
    assert [not torch.equal(old, weights(part)) for old, part in zip(before, parts, strict=True)] == [True, True, False]
    assert set(dict(trainer.model.named_children())) == {"question_encoder", "passage_encoder"}
    evaluations = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
    assert [entry["step"] for entry in evaluations] == [0, 6, 12]
    assert not any("eval_em" in entry for entry in evaluations)
    best = max(evaluations, key=lambda entry: (entry["eval_recall@1"], -entry["eval_loss"]))
    assert trainer.state.best_global_step == best["step"]
    assert trainer.state.log_history[1]["positive_score"] > 0
    assert trainer.knowledge.calls == 3  # the evaluations', none for a step


def test_a_method_may_take_turns(make_trainer, monkeypatch):
    monkeypatch.setitem(METHODS, "in-turn", InTurn)
    trainer = make_trainer(method="in-turn", max_steps=3, eval_strategy="no", save_strategy="no", **PARAMETERS)
    trainer.train()
    assert trainer.model.seen == [(0, True, False), (1, True, False), (2, True, False)]


def test_a_metric_that_the_method_cannot_have_is_refused_before_training(make_trainer, monkeypatch):
    monkeypatch.setitem(METHODS, "in-batch", InBatch)
    with pytest.raises(TrainingError, match="metric_for_best_model=em: takes a generator"):
        make_trainer(method="in-batch", metric_for_best_model="em", max_steps=3, **PARAMETERS)
    with pytest.raises(TrainingError, match="metric_for_best_model=recall@5: takes a search"):
        make_trainer(closed_book=True, metric_for_best_model="recall@5", max_steps=3, **PARAMETERS)


def test_every_method_says_what_it_trains_and_has_a_docstring():
    for name, kind in METHODS.items():
        method = kind()
        assert method.trains and method.trains <= {"question_encoder", "passage_encoder", "generator"}, name
        assert kind.__doc__


def test_methods_are_known_where_there_is_no_torch():
    known = "import sys; from ragtune.training import rules; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", known], check=False).returncode == 0
