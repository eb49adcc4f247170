"""More passages than the generator reads: all are scored by the encoders as they are now, and the best are kept.

What a search finds was ranked with the knowledge base's vectors, which may be those of an older passage encoder.
Source: Izacard et al. 2022, section 2.4, "over-retrieve with reranking", https://arxiv.org/abs/2208.03299
"""

import torch
from torch import Tensor

from ragtune.models.pretrained import evaluating
from ragtune.models.rag import RagModel
from ragtune.training.methods.live_passages import PASSAGE_INPUTS, live_doc_embeddings

Inputs = dict[str, Tensor]


def live_scores(rag: RagModel, inputs: Inputs) -> Tensor:
    """s_k = q·d_k/τ with gradient to the encoders, (batch, n).

    Args:
        rag: the model.
        inputs: the questions' tokens, and `doc_embeddings` or the tokens of `PassageTokens.build`.
    """
    questions = rag.question_encoder(inputs["question_input_ids"], inputs["question_attention_mask"])
    if "doc_embeddings" in inputs:
        return rag.doc_scores(questions, inputs["doc_embeddings"])
    passages = {name: inputs[name] for name in PASSAGE_INPUTS}
    return rag.doc_scores(questions, live_doc_embeddings(rag.passage_encoder, **passages))


@torch.no_grad()
def best_candidates(rag: RagModel, inputs: Inputs, n_docs: int) -> Tensor:
    """Places of the best candidates, best first, (batch, n_docs); without dropout."""
    with evaluating(rag.question_encoder), evaluating(rag.passage_encoder):
        scores = live_scores(rag, inputs)
    return scores.masked_fill(~inputs["doc_mask"], float("-inf")).topk(n_docs).indices


def first_candidates(inputs: Inputs, n_docs: int) -> Tensor:
    """Places of those that the search ranked first, (batch, n_docs)."""
    doc_mask = inputs["doc_mask"]
    return torch.arange(n_docs, device=doc_mask.device).expand(len(doc_mask), n_docs)


def keep(inputs: Inputs, places: Tensor) -> Inputs:
    """The inputs with those candidates alone, in the order of `places`.

    The lengths of their contexts are no longer known on the host. Passages of which none is kept are dropped.
    """
    batch, candidates = inputs["doc_mask"].shape
    contexts = (torch.arange(batch, device=places.device)[:, None] * candidates + places).flatten()
    kept = {name: value for name, value in inputs.items() if name != "context_lengths"}
    kept |= {name: inputs[name].gather(1, places) for name in ("doc_mask", "example_mask") if name in inputs}
    for name in ("context_input_ids", "context_attention_mask"):
        kept[name] = inputs[name][contexts]
    if "doc_embeddings" in inputs:
        kept["doc_embeddings"] = inputs["doc_embeddings"].flatten(0, 1)[contexts].view(batch, places.shape[1], -1)
    else:
        ids, mask, passage_places = (inputs[name] for name in PASSAGE_INPUTS)
        distinct, new_places = passage_places.gather(1, places).unique(return_inverse=True)
        kept |= dict(zip(PASSAGE_INPUTS, (ids[distinct], mask[distinct], new_places), strict=True))
    return kept
