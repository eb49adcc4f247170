import math

import pytest
import torch

from ragtune.models.losses import (
    distillation_loss,
    doc_log_probabilities,
    each_passage_loss,
    mean_log_likelihoods,
    posterior,
    rag_sequence_log_likelihood,
    rag_sequence_loss,
    rag_token_loss,
    token_log_likelihoods,
)

MASK = torch.tensor([[True, True, True], [True, True, False]])
TOKEN_MASK = torch.tensor([[True, True, True, True], [True, True, False, False]])


@pytest.fixture
def scores():
    return torch.tensor([[1.0, 0.5, -1.0], [0.2, 2.0, 9.0]], dtype=torch.float64, requires_grad=True)


@pytest.fixture
def token_lls():
    torch.manual_seed(0)
    return (-3 * torch.rand(2, 3, 4, dtype=torch.float64)).masked_fill(~TOKEN_MASK.unsqueeze(1), 0.0).requires_grad_()


def by_hand(scores, doc):
    """p(z | x) of one question as plain numbers."""
    weights = [math.exp(score) if real else 0.0 for score, real in zip(scores, doc, strict=True)]
    return [weight / sum(weights) for weight in weights]


def test_rag_sequence_loss_is_its_formula_in_plain_loops(scores, token_lls):
    expected = 0.0
    for b in range(2):
        p, lls = by_hand(scores[b].tolist(), MASK[b].tolist()), token_lls[b].tolist()
        total = 0.0
        for k in range(3):
            answer = 1.0
            for t in range(4):
                answer *= math.exp(lls[k][t])
            total += p[k] * answer
        expected -= math.log(total) / 2
    loss = rag_sequence_loss(doc_log_probabilities(scores, MASK), token_lls.sum(-1))
    assert loss.item() == pytest.approx(expected, abs=1e-12)


def test_rag_token_loss_is_its_formula_in_plain_loops(scores, token_lls):
    expected = 0.0
    for b in range(2):
        p, lls = by_hand(scores[b].tolist(), MASK[b].tolist()), token_lls[b].tolist()
        for t in range(int(TOKEN_MASK[b].sum())):
            expected -= math.log(sum(p[k] * math.exp(lls[k][t]) for k in range(3))) / 2
    loss = rag_token_loss(doc_log_probabilities(scores, MASK), token_lls, TOKEN_MASK)
    assert loss.item() == pytest.approx(expected, abs=1e-12)


def test_gradient_by_a_score_is_prior_minus_posterior(scores, token_lls):
    doc_log_probs = doc_log_probabilities(scores, MASK)
    rag_sequence_loss(doc_log_probs, token_lls.sum(-1)).backward()
    expected = (doc_log_probs.exp() - posterior(doc_log_probs, token_lls.sum(-1))) / 2
    torch.testing.assert_close(scores.grad, expected.detach(), rtol=0, atol=1e-12)


def test_posterior_of_each_question_sums_to_one(scores, token_lls):
    r = posterior(doc_log_probabilities(scores, MASK), token_lls.sum(-1))
    torch.testing.assert_close(r.sum(-1), torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize("method", ["sequence", "token"])
def test_padding_documents_have_no_probability_and_no_gradient(scores, token_lls, method):
    doc_log_probs = doc_log_probabilities(scores, MASK)
    if method == "sequence":
        rag_sequence_loss(doc_log_probs, token_lls.sum(-1)).backward()
    else:
        rag_token_loss(doc_log_probs, token_lls, TOKEN_MASK).backward()
    assert doc_log_probs[1, 2].exp() == 0
    assert scores.grad[1, 2] == 0
    assert (token_lls.grad[1, 2] == 0).all()
    assert scores.grad.isfinite().all() and token_lls.grad.isfinite().all()


def test_both_losses_agree_on_answers_of_one_token(scores, token_lls):
    doc_log_probs, first = doc_log_probabilities(scores, MASK), token_lls[:, :, :1]
    torch.testing.assert_close(
        rag_token_loss(doc_log_probs, first, TOKEN_MASK[:, :1]), rag_sequence_loss(doc_log_probs, first.sum(-1))
    )


def test_very_unlikely_answers_stay_finite():
    log_likelihoods = torch.tensor([[-2000.0, -3000.0]], requires_grad=True)
    likelihood = rag_sequence_log_likelihood(torch.tensor([[math.log(0.5)] * 2]), log_likelihoods)
    assert likelihood.item() == pytest.approx(-2000 + math.log(0.5), abs=1e-3)


def test_token_log_likelihoods_are_log_softmax_at_the_label():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 3, 4, 11), torch.randint(0, 11, (2, 3, 4))
    labels[0, 1, 2:] = -100
    expected = logits.log_softmax(-1).gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(token_log_likelihoods(logits, labels), expected.masked_fill(labels == -100, 0.0))


def test_distillation_is_the_mean_divergence_and_its_gradient_p_minus_q_over_the_batch(scores):
    doc_log_probs = doc_log_probabilities(scores, MASK)
    target = torch.tensor([[0.7, 0.2, 0.1], [0.4, 0.6, 0.0]], dtype=torch.float64)
    loss = distillation_loss(doc_log_probs, target.log(), MASK)
    rows = [(by_hand(scores[b].tolist(), MASK[b].tolist()), target[b].tolist()) for b in range(2)]
    expected = sum(q * math.log(q / p) for prior, wanted in rows for p, q in zip(prior, wanted, strict=True) if q) / 2
    assert loss.item() == pytest.approx(expected, abs=1e-12)
    loss.backward()
    torch.testing.assert_close(scores.grad, (doc_log_probs.exp().detach() - target) / 2)


def test_a_target_that_is_almost_certain_stays_finite(scores):
    target = doc_log_probabilities(torch.tensor([[-2000.0, -3000.0, -1.0], [-5.0, -900.0, 0.0]]), MASK)
    loss = distillation_loss(doc_log_probabilities(scores, MASK), target, MASK)
    loss.backward()
    assert loss.isfinite() and scores.grad.isfinite().all()


def test_each_passage_is_an_example_and_padding_is_none():
    likelihoods = torch.tensor([[-1.0, -2.0, -3.0], [-4.0, -5.0, -600.0]])
    assert each_passage_loss(likelihoods, MASK).item() == pytest.approx(15 / 5)
    assert each_passage_loss(likelihoods[:, :1]).item() == pytest.approx(2.5)


def test_mean_log_likelihoods_are_per_token_of_the_answer(token_lls):
    means = mean_log_likelihoods(token_lls, TOKEN_MASK)
    torch.testing.assert_close(means[0], token_lls[0].mean(-1))
    torch.testing.assert_close(means[1], token_lls[1, :, :2].mean(-1))
