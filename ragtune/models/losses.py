"""The losses of retrieval-augmented generation, each beside its formula.

Throughout: s_k = q·d_k/τ are the scores of the k retrieved passages of one question, p_k = softmax(s)_k, and
ℓ_kt = log p(y_t | y_<t, x, z_k). Source: Lewis et al. 2020, https://arxiv.org/abs/2005.11401
"""

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORED = -100


def doc_log_probabilities(doc_scores: Tensor, doc_mask: Tensor) -> Tensor:
    """log p(z | x) over the retrieved passages.

    Args:
        doc_scores: q·d_k/τ, (batch, n_docs).
        doc_mask: True for a passage, False for padding, (batch, n_docs); at least one passage a row.

    Returns:
        (batch, n_docs), -inf for padding; exp of each row sums to 1.
    """
    return doc_scores.masked_fill(~doc_mask, float("-inf")).log_softmax(dim=-1)


def token_log_likelihoods(logits: Tensor, labels: Tensor) -> Tensor:
    """log p of every label; 0 where the label is -100.

    Args:
        logits: (..., length, vocabulary).
        labels: (..., length), -100 where there is nothing to predict.

    Returns:
        (..., length), in nats.
    """
    losses = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORED, reduction="none")
    return -losses.view(labels.shape)


def rag_sequence_log_likelihood(doc_log_probs: Tensor, answer_log_likelihoods: Tensor) -> Tensor:
    """log p(y | x) = log Σ_k p_k Π_t p(y_t | y_<t, x, z_k): one passage explains the whole answer.

    Args:
        doc_log_probs: log p(z | x), (batch, n_docs); -inf for a padding passage.
        answer_log_likelihoods: ℓ_k = Σ_t ℓ_kt, (batch, n_docs), in nats.

    Returns:
        (batch,), in nats.

    Source: Lewis et al. 2020, section 2.1, RAG-Sequence.
    """
    return (doc_log_probs + answer_log_likelihoods).logsumexp(dim=-1)


def rag_token_log_likelihood(doc_log_probs: Tensor, token_log_likelihoods: Tensor, token_mask: Tensor) -> Tensor:
    """log p(y | x) = Σ_t log Σ_k p_k p(y_t | y_<t, x, z_k): each token may come from another passage.

    Args:
        doc_log_probs: log p(z | x), (batch, n_docs); -inf for a padding passage.
        token_log_likelihoods: ℓ_kt, (batch, n_docs, length), in nats.
        token_mask: True for a token of the answer, False for padding, (batch, length).

    Returns:
        (batch,), in nats.

    Source: Lewis et al. 2020, section 2.1, RAG-Token.
    """
    per_token = (doc_log_probs.unsqueeze(-1) + token_log_likelihoods).logsumexp(dim=1)
    return per_token.masked_fill(~token_mask, 0.0).sum(dim=-1)


def rag_sequence_loss(doc_log_probs: Tensor, answer_log_likelihoods: Tensor) -> Tensor:
    """Mean over the batch of -log p(y | x), RAG-Sequence: a scalar. Arguments as `rag_sequence_log_likelihood`.

    Its gradient by s_k is p_k - r_k (over the batch's size) with r = `posterior`: a passage's score rises where it
    explains the answer better than the other passages do.
    """
    return -rag_sequence_log_likelihood(doc_log_probs, answer_log_likelihoods).mean()


def rag_token_loss(doc_log_probs: Tensor, token_log_likelihoods: Tensor, token_mask: Tensor) -> Tensor:
    """Mean over the batch of -log p(y | x), RAG-Token: a scalar. Arguments as `rag_token_log_likelihood`."""
    return -rag_token_log_likelihood(doc_log_probs, token_log_likelihoods, token_mask).mean()


def each_passage_loss(answer_log_likelihoods: Tensor, doc_mask: Tensor | None = None) -> Tensor:
    """Mean over the batch's passages of -log p(y | x, z), each an example of its own: a scalar.

    Args:
        answer_log_likelihoods: log p(y | x, z), (batch, n_docs), in nats.
        doc_mask: True for an example, (batch, n_docs); None where all passages are. The loss of none is 0.

    Source: Lin et al. 2023, eq. 3, https://arxiv.org/abs/2310.01352
    """
    if doc_mask is None:
        return -answer_log_likelihoods.mean()
    return -answer_log_likelihoods.masked_fill(~doc_mask, 0.0).sum() / doc_mask.sum().clamp(min=1)


def posterior(doc_log_probs: Tensor, answer_log_likelihoods: Tensor) -> Tensor:
    """Posterior of each retrieved passage given the answer, r_k = p(z_k | x, y).

    Args:
        doc_log_probs: log p(z | x), (batch, n_docs); -inf for a padding passage.
        answer_log_likelihoods: log p(y | x, z) summed over the answer's tokens, (batch, n_docs), in nats.

    Returns:
        (batch, n_docs), each row sums to 1.

    Source: Lewis et al. 2020, eq. 1, by Bayes' rule.
    """
    return torch.softmax(doc_log_probs + answer_log_likelihoods, dim=-1)


def distillation_loss(doc_log_probs: Tensor, target_log_probs: Tensor, doc_mask: Tensor) -> Tensor:
    """Mean over the batch of KL(Q ‖ P) = Σ_k Q_k (log Q_k - log P_k): a scalar.

    Its gradient by the score s_k of P = softmax(s) is P_k - Q_k, over the batch's size. Averaged over passages too, as
    torch's `KLDivLoss` does unless it is told `batchmean`, it would be 1/n_docs of that.

    Args:
        doc_log_probs: log P, (batch, n_docs); anything for padding.
        target_log_probs: log Q, (batch, n_docs); anything for padding.
        doc_mask: True for a passage, False for padding, (batch, n_docs).

    Source: Izacard et al. 2022, section 2.2, https://arxiv.org/abs/2208.03299
    """
    ours, target = (log_probs.masked_fill(~doc_mask, 0.0) for log_probs in (doc_log_probs, target_log_probs))
    return F.kl_div(ours, target, reduction="batchmean", log_target=True)


def mean_log_likelihoods(token_log_likelihoods: Tensor, token_mask: Tensor) -> Tensor:
    """g_k, the mean of ℓ_kt over the answer's tokens: its exp is the inverse of the answer's perplexity.

    Args:
        token_log_likelihoods: ℓ_kt, (batch, n_docs, length), in nats; 0 beyond an answer's end.
        token_mask: True for a token of the answer, False for padding, (batch, length).

    Returns:
        (batch, n_docs), in nats per token.
    """
    return token_log_likelihoods.sum(dim=-1) / token_mask.sum(dim=-1, keepdim=True)
