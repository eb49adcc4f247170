"""`rag` and `rag-token`: question encoder and generator learn together, through p(z | x).

Source: Lewis et al. 2020, https://arxiv.org/abs/2005.11401
"""

from typing import TYPE_CHECKING, Any

from ragtune.training.methods.base import InputTokens, Method

if TYPE_CHECKING:
    from torch import Tensor

    from ragtune.knowledge.retrieved import Retrieved
    from ragtune.models.rag import RagOutput
    from ragtune.training.trained import TrainedParts


_OF_GENERATOR = ("context_input_ids", "context_attention_mask", "labels", "context_lengths", "answer_lengths")


def generator_inputs(inputs: "dict[str, Any]") -> dict[str, Any]:
    """The arguments of `RagModel.token_log_likelihoods` among a step's inputs."""
    return {name: inputs[name] for name in _OF_GENERATOR if name in inputs}


class Rag(Method):
    """−mean_b log p(y | x) of RAG-Sequence, p(z | x) from the stored vectors of the retrieved passages."""

    trains = frozenset({"question_encoder", "generator"})

    def inputs(self, batch: dict[str, Any], found: "Retrieved | None", tokens: InputTokens) -> "dict[str, Tensor]":
        """Questions, prompts of every question with each of its passages, and the passages' vectors."""
        import torch

        assert found is not None
        contexts = tokens.prompts.build(batch["question"], found.rows)
        inputs = {name: batch[name] for name in ("question_input_ids", "question_attention_mask", "labels")}
        inputs |= {"doc_mask": torch.from_numpy(found.mask)}
        inputs |= self.documents(found, tokens)
        return inputs | {f"context_{name}": value for name, value in contexts.items()}

    def documents(self, found: "Retrieved", tokens: InputTokens) -> "dict[str, Tensor]":
        """The retrieved passages as the scores p(z | x) want them."""
        import torch

        return {"doc_embeddings": torch.from_numpy(found.embeddings)}

    def loss(self, parts: "TrainedParts", inputs: "dict[str, Tensor]", step: int) -> "RagOutput":
        """The negative log-likelihood, marginalised as the model's configuration says."""
        output = parts.rag(**inputs)
        return output.with_loss(-output.log_likelihoods.mean())


class RagToken(Rag):
    """As `Rag`, with RAG-Token's likelihood: each token may come from another passage."""

    marginalization = "token"
