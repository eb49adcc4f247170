"""The closed-book baseline: the generator alone, from the bare question. It is a stage of a run, not a choice."""

from typing import TYPE_CHECKING, Any

from ragtune.training.methods.base import InputTokens, Method

if TYPE_CHECKING:
    from torch import Tensor

    from ragtune.knowledge.retrieved import Retrieved
    from ragtune.models.rag import RagOutput
    from ragtune.training.trained import TrainedParts


class ClosedBook(Method):
    """−mean_b log p(y | question): what the generator knows by heart."""

    trains = frozenset({"generator"})
    needs_search = False

    def inputs(self, batch: dict[str, Any], found: "Retrieved | None", tokens: InputTokens) -> "dict[str, Tensor]":
        """The bare questions, and their answers."""
        contexts = tokens.prompts.build_closed_book(batch["question"])
        return {"labels": batch["labels"], **{f"context_{name}": value for name, value in contexts.items()}}

    def loss(self, parts: "TrainedParts", inputs: "dict[str, Tensor]", step: int) -> "RagOutput":
        """The negative log-likelihood, without documents."""
        output = parts.rag(**inputs)
        return output.with_loss(-output.log_likelihoods.mean())
