"""One model's part of an evaluation: what it answered and retrieved, on its own knowledge base."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ragtune.errors import EvaluationError, RagtuneError
from ragtune.evaluation.asking import ask, ask_closed_book
from ragtune.evaluation.champion import Champion, learnt_by_either
from ragtune.evaluation.ranking import first_ranks
from ragtune.evaluation.scoring import Columns, Hits, gold_ids_known, retrieved_entries, score_answers
from ragtune.evaluation.searched import searched
from ragtune.knowledge.pointers import Pointer
from ragtune.models.checkpoint import knowledge_base_of, load_model
from ragtune.models.rag import RagModel
from ragtune.questions.question import Question

_NO_GOLD = "the champion's knowledge base has none of the gold ids, so retrieval is compared by answer string"
_BY_GOLD = ("recall@", "mrr@", "ndcg@")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Side:
    """One model's answers and retrieval, for all questions in order."""

    answers: list[str]
    columns: Columns
    gold_ranks: list[int | None]
    answer_ranks: list[int | None]
    retrieved: list[list[dict[str, Any]]]
    passages: dict[str, dict[str, str]]
    calibration_error: float
    gold_questions: int
    manifest: dict[str, Any]
    index_recall: dict[str, float]


def evaluate_side(
    style: str,
    model: RagModel,
    knowledge_base: str | Path | Pointer,
    questions: Sequence[Question],
    k: int,
    generation: dict[str, int],
    by_gold: bool | None = None,
    retrieval: str = "direct",
) -> Side:
    """Ask one model all questions and score what comes back.

    Args:
        style: `before`, `after` or `champion`; the suffix of its scores' names.
        model: moved to the GPU if there is one.
        knowledge_base: see `KnowledgeBase.open`.
        questions: any number.
        k: passages retrieved per question.
        generation: `num_beams` and `batch_size`.
        by_gold: judge the retrieval by gold id; None finds out, see `gold_ids_known`.
        retrieval: "exact" searches without the index; otherwise exact search beside it tells the index's recall.
    """
    texts = [question.question for question in questions]
    with searched(knowledge_base, model.passage_encoder.fingerprint, retrieval) as base:
        asked = ask(model, base, texts, k=k, progress=True, **generation)
        if by_gold is None:
            by_gold = gold_ids_known(questions, base.passages)
        hits = Hits(questions, asked.rows, base.passages, by_gold)
        retrieved = retrieved_entries(asked.rows, asked.probabilities, hits, base.passages)
        rows = np.unique(asked.rows[:, : asked.probabilities.shape[1]])
        passages = [base.passages[row] for row in rows.tolist() if row >= 0]
        manifest, index_recall = asdict(base.manifest), base.index_recall()
    return Side(
        answers=asked.answers,
        columns=score_answers(questions, asked.answers, style) | hits.columns(style),
        gold_ranks=_ranks(hits.gold),
        answer_ranks=_ranks(hits.answer),
        retrieved=retrieved,
        passages={passage.id: {"title": passage.title, "text": passage.text} for passage in passages},
        calibration_error=hits.calibration_error(asked.probabilities),
        gold_questions=int(hits.asked.sum()),
        manifest=manifest,
        index_recall=index_recall,
    )


def evaluate_champion(
    champion: Champion,
    model_folder: str | Path,
    questions: Sequence[Question],
    k: int,
    generation: dict[str, int],
    by_gold: bool,
    retrieval: str,
) -> tuple[Side | None, str, str]:
    """Ask today's champion the same questions, on the knowledge base that its lineage names.

    Where that knows none of the gold ids, the retrieval of the two can be compared by answer string alone, and the
    side has no scores by gold id: they would all be 0. It has no scores, NaN, for questions that it or the model in
    `model_folder` learnt from.

    Returns:
        Its side, "" and what a reader must know of it, or ""; or None, and why it cannot be asked: model or knowledge
        base are gone or do not fit, memory does not suffice, or whatever else goes wrong with it.
    """
    try:
        if champion.folder is None:
            raise EvaluationError(champion.problem)
        learnt, note = learnt_by_either(questions, model_folder, champion.folder)
        if learnt.all():
            raise EvaluationError("one of the two models learnt from every question; hold out new ones")
        model = load_model(champion.folder)
        base = champion.knowledge_base or knowledge_base_of(champion.folder)
        known = None if by_gold else False
        side = evaluate_side("champion", model, base, questions, k, generation, known, retrieval)
        if by_gold and not side.gold_questions:
            by_answer = {name: scores for name, scores in side.columns.items() if not name.startswith(_BY_GOLD)}
            side = replace(side, columns=by_answer)
            note = "; ".join(filter(None, (note, _NO_GOLD)))
        side = replace(side, columns={name: np.where(learnt, np.nan, own) for name, own in side.columns.items()})
        return side, "", note
    except RagtuneError as error:
        problem = " ".join(str(error).split())
        _log.warning("the champion, version %s, cannot be evaluated: %s", champion.version, problem)
        return None, problem, ""
    except Exception as error:  # whatever an old model or a full GPU raises: today's model is evaluated all the same
        problem = " ".join(f"{type(error).__name__}: {error}".split())
        _log.warning("the champion, version %s, cannot be evaluated", champion.version, exc_info=True)
        return None, problem, ""


def closed_book_answers(
    folder: str | Path, questions: Sequence[Question], generation: dict[str, int]
) -> list[str] | None:
    """The closed-book baseline's answers; None where training was asked for none: "" or an empty folder."""
    if not folder or not (Path(folder).is_dir() and any(Path(folder).iterdir())):
        return None
    texts = [question.question for question in questions]
    return ask_closed_book(load_model(folder), texts, progress=True, **generation)


def _ranks(hits: np.ndarray) -> list[int | None]:
    return [rank or None for rank in first_ranks(hits).tolist()]
