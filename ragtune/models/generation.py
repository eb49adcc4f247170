"""Answers by RAG-Sequence's "thorough" decoding: every passage proposes, all passages vote.

Beam search proposes answers from each passage alone; each distinct answer is scored against every passage of its
question, log p(y | x) = log Σ_k p_k p(y | x, z_k), and the best is given. Contexts are read once, for beam search and
scoring alike. Source: Lewis et al. 2020, section 2.5, https://arxiv.org/abs/2005.11401
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ragtune.errors import ModelError
from ragtune.knowledge.passages import Passage
from ragtune.models.inputs import PromptBuilder
from ragtune.models.pretrained import evaluating
from ragtune.models.rag import RagModel
from ragtune.progress import progress as show_progress


@dataclass(frozen=True)
class Answer:
    """The winning answer to a question.

    Attributes:
        text: the answer, special tokens removed.
        log_likelihood: log p(y | x), marginalised over the passages, in nats; a token that the generator is forced to
            begin with (BART's <s>) does not count.
        doc_probs: p(z | x) of the question's passages, float32 (passages,), sums to 1.
    """

    text: str
    log_likelihood: float
    doc_probs: np.ndarray


def generate_answers(
    model: RagModel,
    questions: Sequence[str],
    passages: Sequence[Sequence[Passage]],
    doc_log_probs: np.ndarray | Tensor,
    num_beams: int = 2,
    max_new_tokens: int = 0,
    batch_size: int = 16,
    progress: bool = False,
) -> list[str]:
    """The texts of `answer_questions`, which see."""
    answers = answer_questions(
        model, questions, passages, doc_log_probs, num_beams, max_new_tokens, batch_size, progress
    )
    return [answer.text for answer in answers]


@torch.inference_mode()
def answer_questions(
    model: RagModel,
    questions: Sequence[str],
    passages: Sequence[Sequence[Passage]],
    doc_log_probs: np.ndarray | Tensor,
    num_beams: int = 2,
    max_new_tokens: int = 0,
    batch_size: int = 16,
    progress: bool = False,
) -> list[Answer]:
    """Answer each question from its retrieved passages.

    A model of marginalization "token" scores the same candidates by RAG-Token's likelihood; one of "none" reads all
    passages of a question in one prompt.

    Args:
        model: any RagModel, on any device; dropout is off while it answers.
        questions: n questions.
        passages: each question's passages, best first, without padding.
        doc_log_probs: log p(z | x) in the order of `passages`, (n, k), k at least the most passages of a question.
            Scores q·d/τ do as well: each row is normalised over the question's own passages.
        num_beams: beams, and candidates, per passage; 1 is greedy search.
        max_new_tokens: longest answer in tokens; 0 means the model's own `max_answer_tokens`.
        batch_size: questions at once; they are sorted by length for the work.
        progress: show how far it is.

    Returns:
        n answers, in the order of the questions.

    Raises:
        ModelError: a question has no passage, or more than `doc_log_probs` has columns.
    """
    scores = torch.as_tensor(doc_log_probs, dtype=torch.float32, device=model.device)
    _check(questions, passages, scores)
    rows = {passage: row for row, passage in enumerate(dict.fromkeys(p for found in passages for p in found))}
    builder = PromptBuilder(model.generator.prompt_tokens, list(rows), model.config)
    lengths = [
        len(question) + max(len(p.title) + len(p.text) for p in passages[n]) for n, question in enumerate(questions)
    ]
    answers: dict[int, Answer] = {}
    with evaluating(model.generator):
        for batch in _by_length(lengths, batch_size, progress):
            padded = np.full((len(batch), max(len(passages[n]) for n in batch)), -1)
            for place, n in enumerate(batch):
                padded[place, : len(passages[n])] = [rows[passage] for passage in passages[n]]
            asked = [questions[n] for n in batch]
            log_probs = [scores[n, : len(passages[n])].log_softmax(dim=-1) for n in batch]
            if model.config.marginalization == "none":
                prompts, by_prompt = builder.build_together(asked, padded), [scores.new_zeros(1)] * len(batch)
            else:
                prompts, by_prompt = builder.build(asked, padded), log_probs
                prompts = {name: tensor[torch.from_numpy(padded.ravel() >= 0)] for name, tensor in prompts.items()}
            found = _answer_batch(model, prompts, by_prompt, num_beams, max_new_tokens)
            for n, (text, log_likelihood), doc_log_probs in zip(batch, found, log_probs, strict=True):
                answers[n] = Answer(text, log_likelihood, doc_log_probs.exp().cpu().numpy())
    return [answers[n] for n in range(len(questions))]


@torch.inference_mode()
def generate_closed_book(
    model: RagModel,
    questions: Sequence[str],
    num_beams: int = 2,
    max_new_tokens: int = 0,
    batch_size: int = 16,
    progress: bool = False,
) -> list[str]:
    """Answer the bare questions, no passage given: the closed-book baseline.

    Arguments and order as `answer_questions`.
    """
    builder = PromptBuilder(model.generator.prompt_tokens, [], model.config)
    answers: dict[int, str] = {}
    with evaluating(model.generator):
        for batch in _by_length([len(question) for question in questions], batch_size, progress):
            prompts = builder.build_closed_book([questions[n] for n in batch])
            best = model.generator.propose(
                _read(model, prompts), num_beams, 1, max_new_tokens or model.config.max_answer_tokens
            )
            answers |= zip(batch, map(model.generator.decode, best), strict=True)
    return [answers[n] for n in range(len(questions))]


def _answer_batch(
    model: RagModel,
    prompts: dict[str, Tensor],
    doc_log_probs: list[Tensor],
    num_beams: int,
    max_new_tokens: int,
) -> list[tuple[str, float]]:
    """Answers, and their log p(y | x), to questions whose contexts follow one another in `prompts`.

    There are as many contexts of a question as it has `doc_log_probs`.
    """
    counts = [len(log_probs) for log_probs in doc_log_probs]
    read = _read(model, prompts)
    longest = max_new_tokens or model.config.max_answer_tokens
    proposals = model.generator.propose(read, num_beams, num_beams, longest)
    ends = np.cumsum(counts).tolist()
    answers, candidates = [], []
    for count, end in zip(counts, ends, strict=True):
        candidates.append(list(dict.fromkeys(proposals[(end - count) * num_beams : end * num_beams])))
    by_context = [distinct for distinct, count in zip(candidates, counts, strict=True) for _ in range(count)]
    scored = model.generator.score(read, by_context)
    for distinct, log_probs, end in zip(candidates, doc_log_probs, ends, strict=True):
        log_likelihoods = scored[end - len(log_probs) : end, : len(distinct)].transpose(0, 1)
        # Beyond a candidate's end all passages give 0, and log Σ_k p_k is 0 too: nothing needs masking.
        everywhere = torch.ones_like(log_likelihoods[:, 0], dtype=torch.bool)
        marginal = model.marginalize(log_probs.expand(len(distinct), -1), log_likelihoods, everywhere)
        best = int(marginal.argmax())
        answers.append((model.generator.decode(distinct[best]), float(marginal[best])))
    return answers


def _read(model: RagModel, prompts: dict[str, Tensor]) -> Any:
    return model.generator.read(prompts["input_ids"].to(model.device), prompts["attention_mask"].to(model.device))


def _by_length(lengths: Sequence[int], batch_size: int, progress: bool) -> Iterator[list[int]]:
    order = sorted(range(len(lengths)), key=lambda n: -lengths[n])
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return show_progress(batches, "answering", unit="batches") if progress else iter(batches)


def _check(questions: Sequence[str], passages: Sequence[Sequence[Passage]], scores: Tensor) -> None:
    if not len(questions) == len(passages) == len(scores):
        raise ModelError(f"{len(questions)} questions, {len(passages)} lists of passages, {len(scores)} rows of scores")
    for question, found in zip(questions, passages, strict=True):
        if not found:
            raise ModelError(f'"{question}": no passage was retrieved; generate_closed_book answers without')
        if len(found) > scores.shape[1]:
            raise ModelError(f'"{question}": {len(found)} passages, but scores of {scores.shape[1]} only')
