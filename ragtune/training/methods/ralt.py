"""`ralt`: the generator learns to answer from retrieved passages, and the retriever stays as it is.

Source: retrieval-augmented language model fine-tuning, Lin et al. 2023 (RA-DIT), section 2.3,
https://arxiv.org/abs/2310.01352
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from ragtune.errors import TrainingError
from ragtune.settings.setting import OneOf, setting
from ragtune.training.methods.base import InputTokens, Method
from ragtune.training.methods.rag import generator_inputs

if TYPE_CHECKING:
    from torch import Tensor

    from ragtune.knowledge.retrieved import Retrieved
    from ragtune.models.rag import RagOutput
    from ragtune.training.trained import TrainedParts


EXAMPLES = ("all", "supported")
EXAMPLES_HELP = "passages that the generator learns from: `all`, or `supported`, those in which an answer stands"


@dataclass(frozen=True)
class RaltOptions:
    """The settings of `Ralt`."""

    together: bool = setting(
        False, "put a question's passages into one prompt, in training and for good, instead of one prompt each"
    )
    examples: Annotated[str, OneOf(EXAMPLES)] = setting("all", EXAMPLES_HELP)

    def __post_init__(self) -> None:
        if self.together and self.examples != "all":
            raise TrainingError("method_options: together=True puts all passages into one prompt; leave out examples")


class Ralt(Method):
    """−mean log p(y | x, z_k) over questions and passages, each pair an example; or −mean log p(y | x, z_1 … z_k)."""

    options_class = RaltOptions
    trains = frozenset({"generator"})

    def __init__(self, options: Any = None) -> None:
        """Keep the options, which say how the trained model is asked."""
        super().__init__(options)
        self.marginalization = "none" if self.options.together else "sequence"

    def inputs(self, batch: dict[str, Any], found: "Retrieved | None", tokens: InputTokens) -> "dict[str, Tensor]":
        """Prompts with the retrieved passages, and the answers: the prompt's own tokens are nothing to predict."""
        import torch

        assert found is not None
        prompts = tokens.prompts
        if self.options.together:
            contexts, docs = prompts.build_together(batch["question"], found.rows), {}
        else:
            contexts = prompts.build(batch["question"], found.rows)
            docs = {"doc_mask": torch.from_numpy(found.mask), **self.example_mask(batch, found, tokens)}
        named = {f"context_{name}": value for name, value in contexts.items()}
        return {"labels": batch["labels"]} | docs | named

    def example_mask(self, batch: dict[str, Any], found: "Retrieved", tokens: InputTokens) -> "dict[str, Tensor]":
        """`example_mask`, (batch, n_docs): True for a passage in which an answer stands; {} where all are examples."""
        import torch

        from ragtune.questions.normalization import normalize_for_matching
        from ragtune.questions.relevance import hold_answer

        if self.options.examples == "all":
            return {}
        mask = found.mask.copy()
        for own, rows, answers in zip(mask, found.rows, batch["answers"], strict=True):
            texts = (normalize_for_matching(tokens.prompts.passages[row].text) for row in rows[own].tolist())
            own[own] = list(hold_answer(texts, answers))
        return {"example_mask": torch.from_numpy(mask)}

    def loss(self, parts: "TrainedParts", inputs: "dict[str, Tensor]", step: int) -> "RagOutput":
        """The negative log-likelihood of the answers; nothing reaches the encoders."""
        from ragtune.models.losses import each_passage_loss
        from ragtune.models.rag import RagOutput

        likelihoods = parts.rag.token_log_likelihoods(**generator_inputs(inputs)).sum(dim=-1)
        output = RagOutput(answer_log_likelihoods=likelihoods)
        return output.with_loss(each_passage_loss(likelihoods, inputs.get("example_mask", inputs.get("doc_mask"))))
