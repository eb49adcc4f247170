"""RagModel: question encoder, passage encoder and generator, and how likely they find an answer together."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers.utils import ModelOutput

from ragtune.errors import ModelError
from ragtune.models.encoders import Encoder
from ragtune.models.generators.base import Generator
from ragtune.models.generators.loading import load_generator
from ragtune.models.losses import (
    IGNORED,
    doc_log_probabilities,
    rag_sequence_log_likelihood,
    rag_token_log_likelihood,
)
from ragtune.models.prompt import CHAT_TEMPLATES, check_prompt

MARGINALIZATIONS = ("sequence", "token", "none")


@dataclass
class RagConfig:
    """The settings of a RagModel, all that it is besides its weights.

    Attributes:
        marginalization: "sequence" (RAG-Sequence: one passage explains the whole answer), "token" (RAG-Token: each
            token its own) or "none" (all passages stand in one prompt).
        n_docs: passages retrieved for a question.
        temperature: τ in p(z | x) = softmax(q·d/τ); 1 for DPR, about .05 for encoders whose vectors have length 1.
        max_question_tokens: longest question for the question encoder.
        max_answer_tokens: longest answer, its end included.
        max_input_tokens: longest input of the generator; the passage is cut to fit, never the question.
        prompt: the generator's input; the default is Hugging Face RAG's own.
        chat_template: "auto" makes the prompt a user's message where a decoder-only generator's tokenizer has a chat
            template, "on" insists on one, "off" does without.
    """

    marginalization: str = "sequence"
    n_docs: int = 5
    temperature: float = 1.0
    max_question_tokens: int = 32
    max_answer_tokens: int = 32
    max_input_tokens: int = 300
    prompt: str = "{title} / {text} // {question}"
    chat_template: str = "auto"

    def __post_init__(self) -> None:
        if self.marginalization not in MARGINALIZATIONS:
            choices = ", ".join(MARGINALIZATIONS)
            raise ModelError(f'marginalization "{self.marginalization}": choose one of {choices}')
        if not self.temperature > 0:
            raise ModelError(f"temperature {self.temperature}: must be above 0")
        if self.chat_template not in CHAT_TEMPLATES:
            raise ModelError(f'chat_template "{self.chat_template}": choose one of {", ".join(CHAT_TEMPLATES)}')
        check_prompt(self.prompt)


@dataclass
class RagOutput(ModelOutput):
    """Likelihoods of a batch, from `RagModel.forward`, to which a method of training adds its loss.

    Attributes:
        loss: the batch's mean loss, a scalar.
        log_likelihoods: log p(y | x), marginalised over the passages, (batch,), in nats.
        doc_scores: q·d/τ, (batch, n_docs); None without documents.
        doc_log_probs: log p(z | x), (batch, n_docs), -inf for padding; 0 without documents.
        answer_log_likelihoods: log p(y | x, z), (batch, n_docs), in nats.
        metrics: scalars that a method wants logged besides.
    """

    loss: Tensor | None = None
    log_likelihoods: Tensor | None = None
    doc_scores: Tensor | None = None
    doc_log_probs: Tensor | None = None
    answer_log_likelihoods: Tensor | None = None
    metrics: dict[str, Tensor] | None = None

    def with_loss(self, loss: Tensor, **metrics: Tensor) -> "RagOutput":
        """The same with a loss, and scalars to log."""
        return RagOutput(**{**self, "loss": loss, "metrics": metrics or None})


class RagModel(nn.Module):
    """Question encoder and generator, the passage encoder that made the documents, and their likelihoods; no loss.

    The passage encoder is frozen until a method of training says otherwise.
    """

    def __init__(
        self,
        question_encoder: Encoder,
        passage_encoder: Encoder,
        generator: Generator,
        config: RagConfig,
    ) -> None:
        """Put loaded parts together.

        Raises:
            ModelError: the encoders' vectors differ in length.
        """
        super().__init__()
        _check_encoders(question_encoder, passage_encoder)
        self.question_encoder = question_encoder
        if passage_encoder is not question_encoder:  # one for both sides is trained as the question encoder is
            passage_encoder.requires_grad_(False)
        self.passage_encoder = passage_encoder
        self.generator = generator
        self.config = config

    @classmethod
    def from_parts(
        cls,
        question_encoder: str | Path,
        passage_encoder: str | Path,
        generator: str | Path,
        config: RagConfig | None = None,
        trust_remote_code: bool = False,
    ) -> "RagModel":
        """Load three folders or hub names as float32, in evaluation mode.

        Args:
            question_encoder: DPR or sentence-transformers.
            passage_encoder: the one that embeds the knowledge base; with sentence-transformers the same folder.
            generator: any that `ragtune.models.generators.loading.load_generator` loads, with its tokenizer.
            config: `RagConfig()` where it is not given.
            trust_remote_code: run Python code that comes with the models. Off unless their source is trusted.

        Raises:
            ModelError: a part is missing, broken, or does not fit the others.
        """
        model = cls(
            Encoder.from_pretrained(question_encoder, "question", trust_remote_code),
            Encoder.from_pretrained(passage_encoder, "passage", trust_remote_code),
            load_generator(generator, trust_remote_code),
            config or RagConfig(),
        )
        return model.eval()

    @property
    def device(self) -> torch.device:
        return self.generator.device

    def forward(
        self,
        context_input_ids: Tensor,
        context_attention_mask: Tensor,
        labels: Tensor,
        question_input_ids: Tensor | None = None,
        question_attention_mask: Tensor | None = None,
        doc_embeddings: Tensor | None = None,
        doc_mask: Tensor | None = None,
        context_lengths: Sequence[int] | None = None,
        answer_lengths: Sequence[int] | None = None,
    ) -> RagOutput:
        """A batch's likelihoods, with gradient to question encoder and generator, and to `doc_embeddings` if they ask.

        Without `doc_embeddings` it is the closed-book baseline: one context per question, the bare question itself
        (`PromptBuilder.build_closed_book`); the question encoder takes no part and should be frozen under DDP.

        Args:
            context_input_ids: the generator's inputs, (batch · n_docs, length), a question's documents in a row.
            context_attention_mask: 1 for a token, (batch · n_docs, length).
            labels: the answer's tokens with their end, (batch, answer length), padded with -100.
            question_input_ids: (batch, question length), by the question encoder's tokenizer.
            question_attention_mask: 1 for a token, (batch, question length).
            doc_embeddings: (batch, n_docs, dimension), as the knowledge base holds them.
            doc_mask: True for a document, False for padding, (batch, n_docs).
            context_lengths, answer_lengths: tokens of each context and of each answer, as numbers on the host; without
                them a GPU is waited for.

        Raises:
            ModelError: a row of labels holds no token, or a question has no document.
        """
        answer_mask = labels != IGNORED
        if doc_embeddings is None:
            doc_mask = torch.ones_like(labels[:, :1], dtype=torch.bool)
        elif doc_mask is None:
            doc_mask = torch.ones(doc_embeddings.shape[:2], dtype=torch.bool, device=labels.device)
        if labels.device.type == "cpu":  # on a GPU it would be waited for; a training checks what it sends there
            check_rows(labels, doc_mask)

        if doc_embeddings is None:
            doc_scores = None
            doc_log_probs = torch.zeros(doc_mask.shape, device=labels.device)
        else:
            if question_input_ids is None or question_attention_mask is None:
                raise ModelError("doc_embeddings need question_input_ids and question_attention_mask to be scored")
            doc_scores = self.doc_scores(
                self.question_encoder(question_input_ids, question_attention_mask), doc_embeddings
            )
            doc_log_probs = doc_log_probabilities(doc_scores, doc_mask)

        log_likelihoods = self.token_log_likelihoods(
            context_input_ids, context_attention_mask, labels, context_lengths, answer_lengths
        )
        return RagOutput(
            log_likelihoods=self.marginalize(doc_log_probs, log_likelihoods, answer_mask),
            doc_scores=doc_scores,
            doc_log_probs=doc_log_probs,
            answer_log_likelihoods=log_likelihoods.sum(dim=-1),
        )

    def token_log_likelihoods(
        self,
        context_input_ids: Tensor,
        context_attention_mask: Tensor,
        labels: Tensor,
        context_lengths: Sequence[int] | None = None,
        answer_lengths: Sequence[int] | None = None,
    ) -> Tensor:
        """log p(y_t | y_<t, x, z) of the generator alone; arguments as `forward`.

        Returns:
            (batch, n_docs, answer length), in nats; 0 beyond an answer's end.
        """
        n_docs = len(context_input_ids) // len(labels)
        by_context = self.generator.log_likelihoods(
            context_input_ids,
            context_attention_mask,
            labels.repeat_interleave(n_docs, dim=0),
            context_lengths,
            None if answer_lengths is None else [length for length in answer_lengths for _ in range(n_docs)],
        )
        return by_context.view(len(labels), n_docs, -1)

    def marginalize(self, doc_log_probs: Tensor, token_log_likelihoods: Tensor, token_mask: Tensor) -> Tensor:
        """log p(y | x) over the passages, as the configuration's `marginalization` says.

        Args:
            doc_log_probs: log p(z | x), (batch, n_docs); -inf for padding.
            token_log_likelihoods: log p(y_t | y_<t, x, z), (batch, n_docs, length); 0 beyond an answer's end.
            token_mask: True for a token of the answer, (batch, length).

        Returns:
            (batch,), in nats.
        """
        if self.config.marginalization == "token":
            return rag_token_log_likelihood(doc_log_probs, token_log_likelihoods, token_mask)
        return rag_sequence_log_likelihood(doc_log_probs, token_log_likelihoods.sum(dim=-1))

    def doc_scores(self, question_embeddings: Tensor, doc_embeddings: Tensor) -> Tensor:
        """q·d/τ in at least float32, autocast or not: (batch, d) and (batch, n_docs, d) to (batch, n_docs)."""
        dtype = torch.promote_types(question_embeddings.dtype, torch.float32)
        with torch.autocast(question_embeddings.device.type, enabled=False):
            products = torch.einsum("bd,bkd->bk", question_embeddings.to(dtype), doc_embeddings.to(dtype))
        return products / self.config.temperature


def check_rows(labels: Tensor, doc_mask: Tensor | None = None) -> None:
    """Refuse a batch with a row that has no likelihood.

    Args:
        labels: (batch, answer length), padded with -100.
        doc_mask: (batch, n_docs), True for a document; None where there are none.

    Raises:
        ModelError: a row of labels holds no token, or a question has no document.
    """
    empty = (~(labels != IGNORED).any(dim=1)).nonzero().flatten().tolist()
    if empty:
        raise ModelError(f"labels: rows {empty} of the batch hold no token; drop questions without an answer")
    alone = [] if doc_mask is None else (~doc_mask.any(dim=1)).nonzero().flatten().tolist()
    if alone:
        raise ModelError(f"doc_mask: rows {alone} of the batch have no document")


def _check_encoders(question_encoder: Encoder, passage_encoder: Encoder) -> None:
    if question_encoder.dimension != passage_encoder.dimension:
        raise ModelError(
            f"{question_encoder.name} makes vectors of {question_encoder.dimension}, {passage_encoder.name} of "
            f"{passage_encoder.dimension}: question and passage encoder must belong together"
        )
