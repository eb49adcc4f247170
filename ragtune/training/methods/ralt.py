"""`ralt`: the generator learns to answer from retrieved passages, and the retriever stays as it is.

Source: retrieval-augmented language model fine-tuning, Lin et al. 2023 (RA-DIT), section 2.3,
https://arxiv.org/abs/2310.01352
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ragtune.settings.setting import setting
from ragtune.training.methods.base import InputTokens, Method
from ragtune.training.methods.rag import generator_inputs

if TYPE_CHECKING:
    from torch import Tensor

    from ragtune.knowledge.retrieved import Retrieved
    from ragtune.models.rag import RagOutput
    from ragtune.training.trained import TrainedParts


@dataclass(frozen=True)
class RaltOptions:
    """The settings of `Ralt`."""

    together: bool = setting(
        False, "put a question's passages into one prompt, in training and for good, instead of one prompt each"
    )


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
            docs = {"doc_mask": torch.from_numpy(found.mask)}
        named = {f"context_{name}": value for name, value in contexts.items()}
        return {"labels": batch["labels"]} | docs | named

    def loss(self, parts: "TrainedParts", inputs: "dict[str, Tensor]", step: int) -> "RagOutput":
        """The negative log-likelihood of the answers; nothing reaches the encoders."""
        from ragtune.models.losses import each_passage_loss
        from ragtune.models.rag import RagOutput

        likelihoods = parts.rag.token_log_likelihoods(**generator_inputs(inputs)).sum(dim=-1)
        output = RagOutput(answer_log_likelihoods=likelihoods)
        return output.with_loss(each_passage_loss(likelihoods, inputs.get("doc_mask")))
