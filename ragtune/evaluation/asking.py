"""Ask a model questions: retrieve once per question, then generate from the passages."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ragtune.evaluation.spread import answer_on
from ragtune.knowledge.retrieved import Searchable
from ragtune.models.devices import all_devices
from ragtune.models.generation import generate_answers, generate_closed_book
from ragtune.models.losses import doc_log_probabilities
from ragtune.models.rag import RagModel

_SEARCHED_AT_ONCE = 256
_QUESTIONS_A_DEVICE = 256  # below which a copy of the model costs more than it saves


@dataclass(frozen=True)
class Asked:
    """The answers to n questions, and what they rest on.

    Attributes:
        answers: n texts.
        rows: (n, k) int64, rows of the knowledge base's passages, best first; -1 where fewer were found.
        probabilities: (n, n_docs) float64, p(z|x) of the first n_docs, which the answers were made from; a row sums to
            1, padding has 0.
    """

    answers: list[str]
    rows: np.ndarray
    probabilities: np.ndarray


def ask(
    model: RagModel,
    knowledge_base: Searchable,
    questions: Sequence[str],
    *,
    k: int = 0,
    num_beams: int = 2,
    batch_size: int = 16,
    progress: bool = False,
) -> Asked:
    """Retrieve passages for each question, and answer it from the first `model.config.n_docs` of them.

    Args:
        model: moved to the first GPU if there is one, and copied to the others, in bfloat16 where they compute in it.
        knowledge_base: made with the model's passage encoder.
        questions: any number.
        k: passages retrieved, n_docs at least; those beyond serve recall@k.
        num_beams: beams per passage.
        batch_size: questions that are answered at once.
        progress: show how far it is.
    """
    devices = _devices(len(questions))
    model.to(devices[0])
    n_docs = model.config.n_docs
    rows, scores = _retrieve(model, knowledge_base, questions, max(k, n_docs))
    kept = torch.from_numpy(scores[:, :n_docs] / model.config.temperature)
    log_probabilities = doc_log_probabilities(kept, torch.from_numpy(rows[:, :n_docs] >= 0))
    passages = [[knowledge_base.passages[row] for row in found if row >= 0] for found in rows[:, :n_docs].tolist()]

    def answer(own: RagModel, share: range) -> list[str]:
        texts, found = [questions[n] for n in share], [passages[n] for n in share]
        shown = progress and not share.start
        return generate_answers(own, texts, found, log_probabilities[list(share)], num_beams, 0, batch_size, shown)

    answers = answer_on(devices, model, answer, len(questions))
    return Asked(answers, rows, log_probabilities.exp().numpy())


def ask_closed_book(
    model: RagModel, questions: Sequence[str], *, num_beams: int = 2, batch_size: int = 16, progress: bool = False
) -> list[str]:
    """The generator's answers to the bare questions, no passage given; arguments as for `ask`."""

    def answer(own: RagModel, share: range) -> list[str]:
        texts = [questions[n] for n in share]
        return generate_closed_book(own, texts, num_beams, 0, batch_size, progress and not share.start)

    return answer_on(_devices(len(questions)), model, answer, len(questions))


def _devices(questions: int) -> list[str]:
    return all_devices()[: 1 + questions // _QUESTIONS_A_DEVICE]


def _retrieve(
    model: RagModel, knowledge_base: Searchable, questions: Sequence[str], k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and inner products, (n, k) each; the vectors are let go of batch by batch."""
    rows, scores = np.empty((len(questions), k), np.int64), np.empty((len(questions), k), np.float64)
    for start in range(0, len(questions), _SEARCHED_AT_ONCE):
        part = slice(start, start + _SEARCHED_AT_ONCE)
        queries = model.question_encoder.encode(questions[part], max_length=model.config.max_question_tokens)
        found = knowledge_base.search(queries, k)
        rows[part], scores[part] = found.rows, found.scores
    return rows, scores
