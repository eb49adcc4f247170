"""The questions that the knowledge base can answer: a reference answer stands in a passage retrieved for them."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ragtune.errors import QuestionError
from ragtune.files import atomic_file
from ragtune.progress import progress
from ragtune.questions.normalization import normalize_for_matching
from ragtune.questions.question import Question, read_kept_questions
from ragtune.questions.relevance import first_rank, hold_answer

_RANKS = (1, 5, 10)
_NORMALIZED_PASSAGES = 200_000  # kept in memory, some 120 MB


class QuestionEncoder(Protocol):
    """Whatever turns questions into vectors; `ragtune.models.encoders.Encoder` is one."""

    def encode(self, texts: list[str], /) -> npt.NDArray[np.float32]:
        """The vectors of n texts, (n, d)."""


class SearchablePassages(Protocol):
    """Whatever finds passages by vectors; `ragtune.knowledge.knowledge_base.KnowledgeBase` is one."""

    @property
    def passages(self) -> Any:
        """`len(passages)`, `passages[row].text`, and perhaps `passages.place` for messages."""

    def search(self, queries: npt.NDArray[np.float32], k: int, /) -> Any:
        """A result with `rows` (B, k) int64, best first, -1 for padding, for (B, d) queries."""


def split_by_answerability(
    questions_path: str | Path,
    encoder: QuestionEncoder,
    knowledge_base: SearchablePassages,
    answerable_path: str | Path,
    unanswerable_path: str | Path,
    k: int = 10,
    batch_size: int = 1024,
) -> dict[str, int | float]:
    """Retrieve k passages per question, and split the questions by whether one of them holds one of its answers.

    An answer must stand in the passage's text (its title does not count) as `contains_answer` says: on word boundaries
    where its script has them, after SQuAD normalisation.

    Args:
        questions_path: JSONL that `filter_questions` wrote.
        encoder: the question encoder, of the same kind as the knowledge base's passage encoder.
        knowledge_base: where to look.
        answerable_path: JSONL to write, in the same form and order; `unanswerable_path` gets the others.
        k: passages per question.
        batch_size: questions per call of `encoder.encode` and `knowledge_base.search`.

    Returns:
        `answerable` and `unanswerable` (counts), `answerable_fraction`, and `answerable_at_<n>` for n of 1, 5, 10 up
        to k: the fraction of questions with an answer in the first n passages.

    Raises:
        QuestionError: there is no question, or none is answerable; neither file is written then.
        StorageError: the questions cannot be read, or the outputs not written.
    """
    if k < 1 or batch_size < 1:
        raise QuestionError(f"k = {k}, batch_size = {batch_size}: both must be at least 1")

    passages = knowledge_base.passages

    @lru_cache(_NORMALIZED_PASSAGES)
    def normalized_text(row: int) -> str:
        return normalize_for_matching(passages[row].text)

    ranks: list[int] = []
    with atomic_file(answerable_path) as answerable, atomic_file(unanswerable_path) as unanswerable:
        questions = progress(read_kept_questions(questions_path), "checking answerability", unit="questions")
        while batch := list(islice(questions, batch_size)):
            found = knowledge_base.search(encoder.encode([question.question for question in batch]), k)
            for question, rows in zip(batch, found.rows.tolist(), strict=True):
                rank = _rank_of_answer(question, rows, normalized_text)
                ranks.append(rank)
                (answerable if rank else unanswerable).write(question.as_line())
        if not any(ranks):
            raise _nothing_answerable(questions_path, passages, len(ranks), k)
    return _metrics(ranks, k)


def _rank_of_answer(question: Question, rows: Sequence[int], normalized_text: Callable[[int], str]) -> int:
    """The rank from 1 of the first passage that holds an answer; 0 if none does."""
    return first_rank(hold_answer((normalized_text(row) if row >= 0 else "" for row in rows), question.answers))


def _metrics(ranks: Sequence[int], k: int) -> dict[str, int | float]:
    answerable = sum(rank > 0 for rank in ranks)
    return {
        "answerable": answerable,
        "unanswerable": len(ranks) - answerable,
        "answerable_fraction": answerable / len(ranks),
        **{f"answerable_at_{n}": sum(0 < rank <= n for rank in ranks) / len(ranks) for n in _RANKS if n <= k},
    }


def _nothing_answerable(questions_path: str | Path, passages: Any, questions: int, k: int) -> QuestionError:
    if not questions:
        return QuestionError(f"{questions_path}: holds no question; filter_questions writes it")
    base = getattr(passages, "place", "the knowledge base")
    return QuestionError(
        f"{questions_path}: none of {questions:,} questions has an answer in the first {k} of the"
        f" {len(passages):,} passages of {base}; raise k, and check that corpus, questions and question encoder"
        " belong together"
    )
