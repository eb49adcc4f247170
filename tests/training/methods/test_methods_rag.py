"""The losses of rag, rag-token and rag-end2end, and of the baseline, against their formulas."""

import pytest
import torch

from ragtune.training.methods.closed_book import ClosedBook
from ragtune.training.methods.end2end import RagEnd2End
from ragtune.training.methods.rag import Rag, RagToken, generator_inputs

PARAMETERS = {"report_to": "none", "n_docs": 3, "temperature": 0.5, "max_steps": 2, "eval_strategy": "no"}


@pytest.fixture
def step(make_trainer):
    """A trainer, a batch's inputs, and its output as the method computes it."""

    def step(closed_book=False, **parameters):
        trainer = make_trainer(closed_book=closed_book, **PARAMETERS | parameters)
        batch = trainer.data_collator([trainer.train_dataset[row] for row in range(4)])
        found = None
        if trainer.method.needs_search:
            found = trainer.knowledge.search(trainer.encode_questions([batch])[0], 3)
        inputs = trainer.method.inputs(batch, found, trainer.tokens)
        return trainer, batch, found, inputs, trainer.method.loss(trainer.model.eval(), inputs, 0)

    return step


def token_scores(trainer, inputs):
    """log p(y_t | y_<t, x, z): (batch, n_docs, length), and p(z | x): (batch, n_docs)."""
    rag = trainer.rag
    tokens = rag.token_log_likelihoods(**generator_inputs(inputs))
    question = rag.question_encoder(inputs["question_input_ids"], inputs["question_attention_mask"])
    return tokens, question


def test_rag_is_minus_the_log_of_the_passages_weighted_likelihoods(step):
    trainer, _, found, inputs, output = step()
    assert isinstance(trainer.method, Rag)
    tokens, question = token_scores(trainer, inputs)
    scores = torch.einsum("bd,bkd->bk", question, torch.from_numpy(found.embeddings)) / 0.5
    answers = tokens.reshape(4, 3, -1).sum(-1)
    expected = -(scores.log_softmax(-1) + answers).logsumexp(-1).mean()
    assert output.loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_rag_token_lets_each_token_come_from_another_passage(step):
    trainer, batch, found, inputs, output = step(method="rag-token")
    assert isinstance(trainer.method, RagToken)
    tokens, question = token_scores(trainer, inputs)
    scores = torch.einsum("bd,bkd->bk", question, torch.from_numpy(found.embeddings)) / 0.5
    tokens = tokens.reshape(4, 3, -1)
    mixed = (scores.log_softmax(-1).unsqueeze(-1) + tokens).logsumexp(1)
    real = torch.as_tensor(batch["labels"]) != -100
    expected = -(mixed * real).sum(-1).mean()
    assert output.loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_end2end_scores_live_vectors_with_gradient(step):
    trainer, _, _, inputs, output = step(method="rag-end2end")
    assert isinstance(trainer.method, RagEnd2End) and trainer.method.refreshes
    assert "doc_embeddings" not in inputs
    output.loss.backward()
    for part in (trainer.rag.passage_encoder, trainer.rag.question_encoder, trainer.rag.generator):
        assert any(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in part.parameters())


def test_the_closed_book_baseline_reads_no_passage(step):
    trainer, _, _, inputs, output = step(closed_book=True)
    assert isinstance(trainer.method, ClosedBook) and trainer.method.parts == {"generator"}
    assert set(inputs) <= {"labels", *(f"context_{name}" for name in ("input_ids", "attention_mask", "lengths"))}
    tokens = trainer.rag.token_log_likelihoods(**generator_inputs(inputs))
    assert output.loss.item() == pytest.approx(-tokens.reshape(4, -1).sum(-1).mean().item(), rel=1e-5)
