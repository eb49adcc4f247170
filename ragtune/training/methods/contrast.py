"""The losses of `retriever`, computed by sentence-transformers from our encoders' vectors.

Its losses take vectors as well as models (`compute_loss_from_embeddings`): the formula and the gathering over processes
with gradient are its own. Its masks are none, so what is no negative is taken out of the scores by the similarity that
it is given. Its cached losses do not fit: they run the encoder's backward pass inside a hook, once per mini-batch,
which a trainer that wraps the whole step for DDP cannot follow; `encode` does the same by recomputing activations.

Sources: van den Oord et al. 2018, https://arxiv.org/abs/1807.03748; Hadsell et al. 2006; gradient caching, Gao et al.
2021, https://arxiv.org/abs/2101.06983
"""

import torch
import torch.distributed as dist
from sentence_transformers.sentence_transformer.losses import ContrastiveLoss, MultipleNegativesRankingLoss
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ragtune.models.encoders import Encoder

_TEXTS_ON_CPU = 16  # of like length at once: what its caches hold


def encode(
    encoder: Encoder, input_ids: Tensor, attention_mask: Tensor, chunk_size: int = 0, at_most: int = 0
) -> Tensor:
    """Vectors of n texts, (n, d), with gradient.

    Args:
        encoder: of the texts.
        input_ids, attention_mask: (n, length), padded on the right.
        chunk_size: texts whose activations are in memory at once. They are computed again in the backward pass, chunk
            by chunk and with the same dropout, as gradient caching does; 0 keeps all of them.
        at_most: n that no process exceeds, so that all call the encoder equally often; 0 means n.
    """
    count, on_cpu = len(input_ids), input_ids.device.type == "cpu"
    size = chunk_size or (_TEXTS_ON_CPU if on_cpu else max(count, at_most))
    chunks = -(-max(count, at_most) // size)
    lengths = attention_mask.sum(dim=1)
    order = lengths.argsort(descending=True, stable=True)
    filled = torch.cat([order, order[-1:].expand(max(0, chunks - count))])
    vectors = []
    for part in filled.tensor_split(chunks):
        longest = int(lengths[part[0]]) if on_cpu else input_ids.shape[1]  # a GPU would be waited for
        texts = (input_ids[part, :longest], attention_mask[part, :longest])
        vectors.append(checkpoint(encoder, *texts, use_reentrant=False) if chunk_size else encoder(*texts))
    return torch.cat(vectors)[:count][order.argsort()]


def gathered_rows(rows: Tensor) -> Tensor:
    """All processes' (B, k) rows, (processes · B, k), in the order in which `info_nce` gathers their vectors."""
    if not in_several_processes():
        return rows
    everyone = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(everyone, rows.contiguous())
    return torch.cat(everyone)


def in_several_processes() -> bool:
    """Tell whether a pool of negatives comes from more than this process."""
    return dist.is_initialized() and dist.get_world_size() > 1


def info_nce(questions: Tensor, passages: Tensor, excluded: Tensor, temperature: float, gather: bool) -> Tensor:
    """−log(e^{q·d⁺/τ} / Σ_d e^{q·d/τ}), d over all passages of the pool that are not excluded; the mean over questions.

    Args:
        questions: (B, d).
        passages: (B, k, d), each question's positive first, then its hard negatives.
        excluded: (B, k · B), or (B, k · processes · B) where it gathers, True for what is no negative of a question.
            The pool's order is all questions' first passages, then all second ones, and so on.
        temperature: τ.
        gather: the pool is that of all processes, with gradient to theirs.
    """

    def similarity(own: Tensor, pool: Tensor) -> Tensor:
        dtype = torch.promote_types(own.dtype, torch.float32)
        with torch.autocast(own.device.type, enabled=False):
            return (own.to(dtype) @ pool.to(dtype).T).masked_fill(excluded, float("-inf"))

    loss = MultipleNegativesRankingLoss(
        None,  # type: ignore[arg-type]  # no model computes the vectors but ours
        scale=1 / temperature,
        similarity_fct=similarity,
        gather_across_devices=gather,
    )
    return loss.compute_loss_from_embeddings([questions, *passages.unbind(dim=1)], labels=None)  # type: ignore[arg-type]


def contrastive(questions: Tensor, passages: Tensor, excluded: Tensor, own: Tensor, margin: float) -> Tensor:
    """½ · mean of D² over positive pairs and max(0, margin − D)² over negative ones, D the cosine distance.

    A question's pairs are its positive, its hard negatives, and the next question's positive where that is a negative.

    Args:
        questions, passages: as of `info_nce`.
        excluded: (B, k · B), as of `info_nce`, of this process alone.
        own: (B, k), True where there is such a passage.
        margin: distance that a negative pair should have.
    """
    count, k = own.shape
    itself = torch.arange(count, device=own.device)
    following = itself.roll(-1)
    paired = torch.cat([passages, passages[following, :1]], dim=1)
    negative = ~excluded.gather(1, following[:, None]) & (following != itself)[:, None]  # of one question there is none
    there = torch.cat([own, negative], dim=1)
    labels = torch.zeros_like(there, dtype=torch.long)
    labels[:, 0] = 1
    repeated = questions[:, None].expand(-1, k + 1, -1)
    pairs = [repeated[there], paired[there]]
    return ContrastiveLoss(None, margin=margin).compute_loss_from_embeddings(pairs, labels[there])  # type: ignore[arg-type]


def similarities(questions: Tensor, passages: Tensor) -> Tensor:
    """The cosines of questions, (B, d), and their positives, (B, d): (B,), without gradient."""
    return F.cosine_similarity(questions.detach().float(), passages.detach().float())
