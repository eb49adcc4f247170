"""`rag-end2end`: the passage encoder learns too.

Source: Siriwardhana et al. 2021, https://arxiv.org/abs/2106.11517
"""

from typing import TYPE_CHECKING

from ragtune.training.methods.base import InputTokens
from ragtune.training.methods.rag import Rag

if TYPE_CHECKING:
    from torch import Tensor

    from ragtune.knowledge.retrieved import Retrieved
    from ragtune.models.rag import RagOutput
    from ragtune.training.trained import TrainedParts


class RagEnd2End(Rag):
    """As `Rag`, against the vectors that the passage encoder makes of the retrieved passages now, with gradient."""

    trains = frozenset({"question_encoder", "passage_encoder", "generator"})

    def documents(self, found: "Retrieved", tokens: InputTokens) -> "dict[str, Tensor]":
        """The distinct passages' tokens, and which passage stands where."""
        return tokens.passages.build(found.rows)

    def loss(self, parts: "TrainedParts", inputs: "dict[str, Tensor]", step: int) -> "RagOutput":
        """As `Rag.loss`, the passages encoded first."""
        from ragtune.training.methods.live_passages import PASSAGE_INPUTS, live_doc_embeddings

        passages = {name: inputs[name] for name in PASSAGE_INPUTS}
        others = {name: value for name, value in inputs.items() if name not in passages}
        embeddings = live_doc_embeddings(parts.rag.passage_encoder, **passages)
        return super().loss(parts, others | {"doc_embeddings": embeddings}, step)
