"""`lsr`: the retriever learns from a generator that stays as it is, which passages make the answer likely.

Sources: perplexity distillation and EMDR², Izacard et al. 2022, section 2.2, https://arxiv.org/abs/2208.03299;
REPLUG LSR, Shi et al. 2023, section 4, https://arxiv.org/abs/2301.12652
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from ragtune.errors import TrainingError
from ragtune.settings.setting import OneOf, Range, setting
from ragtune.settings.training import MOST_PASSAGES
from ragtune.training.methods.base import InputTokens
from ragtune.training.methods.rag import Rag, generator_inputs

if TYPE_CHECKING:
    from torch import Tensor

    from ragtune.knowledge.retrieved import Retrieved
    from ragtune.models.rag import RagOutput
    from ragtune.training.trained import TrainedParts

_ANSWER_TEMPERATURE = 0.1


@dataclass(frozen=True)
class LsrOptions:
    """The settings of `Lsr`."""

    objective: Annotated[str, OneOf(("perplexity", "replug", "emdr"))] = setting(
        "perplexity",
        "what the retriever learns from: `perplexity` (Atlas: the answer's mean log-likelihood per token), `replug` "
        "(its exponential, a probability) or `emdr` (the answer's likelihood, marginalised)",
    )
    answer_temperature: Annotated[float, Range(above=0)] = setting(
        _ANSWER_TEMPERATURE, "temperature of the generator's distribution over passages; `emdr` has none"
    )
    score_temperature: Annotated[float, Range(0)] = setting(
        0.0, "temperature of the retriever's distribution over passages; 0 means the run's `temperature`"
    )
    n_candidates: Annotated[int, Range(0, MOST_PASSAGES)] = setting(
        0, "passages searched for, of which the encoders as they are now keep the best n_docs; 0 means n_docs"
    )
    train_passage_encoder: bool = setting(False, "train the passage encoder too, and rebuild the knowledge base")

    def __post_init__(self) -> None:
        if self.objective == "emdr" and self.answer_temperature != _ANSWER_TEMPERATURE:
            raise TrainingError("method_options: answer_temperature has no effect with objective=emdr; leave it out")


class Lsr(Rag):
    """KL(Q ‖ P): P = softmax(s) of the retriever, Q = softmax(g/τ) of the frozen generator's likelihoods."""

    options_class = LsrOptions
    uses = frozenset({"generator"})
    marginalization = ""
    best_by = "recall@1"

    def __init__(self, options: Any = None) -> None:
        """Keep the options, which say which encoders learn."""
        super().__init__(options)
        passages = {"passage_encoder"} if self.options.train_passage_encoder else set()
        self.trains = frozenset({"question_encoder"} | passages)

    def check(self, parameters: Mapping[str, Any]) -> None:
        """Refuse fewer candidates than n_docs."""
        candidates, n_docs = self.options.n_candidates, parameters.get("n_docs", 0)
        if 0 < candidates < n_docs:
            raise TrainingError(
                f"method_options: n_candidates={candidates}: of which the best n_docs={n_docs} are kept; give that "
                "many or more, or 0"
            )

    def n_retrieved(self, n_docs: int) -> int:
        """As many as there are candidates; n_docs of a model folder may be more."""
        return max(self.options.n_candidates, n_docs)

    def documents(self, found: "Retrieved", tokens: InputTokens) -> "dict[str, Tensor]":
        """The stored vectors; of a passage encoder that learns, the tokens that it reads."""
        if self.options.train_passage_encoder:
            return tokens.passages.build(found.rows)
        return super().documents(found, tokens)

    def loss(self, parts: "TrainedParts", inputs: "dict[str, Tensor]", step: int) -> "RagOutput":
        """The divergence, or EMDR²'s negative log-likelihood; no gradient reaches the generator."""
        import torch

        from ragtune.models.losses import IGNORED, doc_log_probabilities
        from ragtune.models.rag import RagOutput
        from ragtune.training.methods.candidates import best_candidates, first_candidates, keep, live_scores
        from ragtune.training.telemetry.monitor import entropy

        rag, n_docs = parts.rag, parts.rag.config.n_docs
        if inputs["doc_mask"].shape[1] > n_docs:  # an evaluation answers from those that the search ranks first
            places = best_candidates(rag, inputs, n_docs) if parts.training else first_candidates(inputs, n_docs)
            inputs = keep(inputs, places)
        scores, doc_mask = live_scores(rag, inputs), inputs["doc_mask"]
        with torch.no_grad():
            by_token = rag.token_log_likelihoods(**generator_inputs(inputs))
        rescaled = scores * (rag.config.temperature / (self.options.score_temperature or rag.config.temperature))
        retriever = doc_log_probabilities(rescaled, doc_mask)
        loss, target = self.divergence(retriever, by_token, inputs["labels"] != IGNORED, doc_mask)
        output = RagOutput(
            doc_scores=scores,
            doc_log_probs=doc_log_probabilities(scores, doc_mask),
            answer_log_likelihoods=by_token.sum(dim=-1),
        )
        entropies = {"retriever_entropy": entropy(retriever).mean(), "generator_entropy": entropy(target).mean()}
        return output.with_loss(loss, **entropies)

    def divergence(
        self, retriever: "Tensor", by_token: "Tensor", token_mask: "Tensor", doc_mask: "Tensor"
    ) -> "tuple[Tensor, Tensor]":
        """The loss, and the log of the distribution Q towards which it draws P; its gradient by P's scores is P - Q.

        Args:
            retriever: log P, (batch, n_docs); -inf for padding.
            by_token: log p(y_t | y_<t, x, z), (batch, n_docs, length), in nats; 0 beyond an answer's end.
            token_mask: True for a token of the answer, (batch, length).
            doc_mask: True for a passage, (batch, n_docs).
        """
        from ragtune.models import losses

        if self.options.objective == "emdr":
            likelihoods = by_token.sum(dim=-1)
            target = losses.posterior(retriever, likelihoods).detach().log()
            return losses.rag_sequence_loss(retriever, likelihoods), target
        worth = losses.mean_log_likelihoods(by_token, token_mask)
        if self.options.objective == "replug":
            worth = worth.exp()
        target = losses.doc_log_probabilities(worth / self.options.answer_temperature, doc_mask)
        return losses.distillation_loss(retriever, target, doc_mask), target
