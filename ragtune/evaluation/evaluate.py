"""The evaluation of a run: the fine-tuned model against the base model and the closed-book baseline."""

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ragtune.errors import EvaluationError
from ragtune.evaluation.asking import ask, ask_closed_book
from ragtune.evaluation.ranking import first_ranks
from ragtune.evaluation.report import report_from_folder
from ragtune.evaluation.scoring import (
    RECALL_AT,
    Columns,
    Hits,
    gold_ids_known,
    retrieved_entries,
    score_answers,
    summarise,
)
from ragtune.files import atomic_path, open_uri
from ragtune.knowledge.knowledge_base import KnowledgeBase
from ragtune.models.checkpoint import load_model, read_description
from ragtune.models.rag import RagModel
from ragtune.questions.question import SHARED, Question, read_kept_questions

_TRAINING_LOG = "training_log.json"


@dataclass(frozen=True)
class _Side:
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


def evaluate(
    model_folder: str | Path,
    base_parts: tuple[str, str, str],
    questions_path: str | Path,
    knowledge_base_folder: str | Path,
    output_folder: str | Path,
    *,
    closed_book_folder: str | Path = "",
    base_knowledge_base_folder: str | Path = "",
    report_path: str | Path = "",
    rejected_path: str | Path = "",
    title: str = "",
    num_beams: int = 2,
    batch_size: int = 16,
    answerable_k: int = 10,
    seed: int = 0,
) -> dict[str, float]:
    """Put all held-out questions to the model before and after fine-tuning, and to the closed-book baseline.

    A question counts as answerable if a reference stands in one of the first `answerable_k` passages that the base
    retriever finds for it; the figures over those carry the prefix `answerable_`. They flatter the base retriever,
    so the figures over all questions are the ones to quote.

    Args:
        model_folder: the fine-tuned model.
        base_parts: question encoder, passage encoder and generator that fine-tuning started from.
        questions_path: held-out questions, JSONL that `filter_questions` wrote.
        knowledge_base_folder: made with the fine-tuned model's passage encoder.
        output_folder: gets metrics.json, predictions.jsonl, passages.jsonl, facts.json and report.html, all or nothing.
        closed_book_folder: the baseline that `finetune` trained without passages; "" or an empty folder: none.
        base_knowledge_base_folder: where fine-tuning trained the passage encoder, the one made before; "": the same.
        report_path: where the report goes too.
        rejected_path: JSONL of rejected questions, counted by reason in the report.
        title: of the report.
        num_beams: beams a passage when answers are generated.
        batch_size: questions that are answered at once.
        answerable_k: see above.
        seed: of the bootstrap.

    Returns:
        The metrics, fractions: em, f1, rouge1, rouge2, rougeL with `_before`, `_after`, `_closed_book`; recall@1, @5,
        @20, mrr@10, ndcg@10 with `_before`, `_after`, by gold id where gold ids are known, else by answer string, and
        always by answer string with the prefix `answer_`; differences with intervals, see `summarise`; all of these
        again with the prefix `answerable_`; calibration_error_before and _after; and the counts test_questions,
        answerable_test_questions, gold_questions, answerable_k, and test_sharing_title, _gold and _question: how many
        have theirs in common with a training question, as `filter_questions` found.

    Raises:
        EvaluationError: there is no question to evaluate on, or num_beams is below 1.
        ModelError, KnowledgeBaseError, QuestionError, StorageError: an input is missing, broken, or does not fit.
    """
    if num_beams < 1:
        raise EvaluationError(f"num_beams={num_beams}: must be at least 1")
    questions = list(read_kept_questions(questions_path))
    if not questions:
        raise EvaluationError(
            f"{questions_path}: no question to evaluate on; raise test_fraction, or give test questions"
        )
    k = max(*RECALL_AT, answerable_k)
    generation = {"num_beams": num_beams, "batch_size": batch_size}
    model = load_model(model_folder)
    config = model.config
    after = _side("after", model, knowledge_base_folder, questions, k, generation)
    del model  # before the next one is loaded: a GPU may hold one of them only
    base = RagModel.from_parts(*base_parts, config)
    before = _side("before", base, base_knowledge_base_folder or knowledge_base_folder, questions, k, generation)
    del base
    closed_book = _closed_book_answers(closed_book_folder, questions, generation)

    columns = before.columns | after.columns
    if closed_book is not None:
        columns |= score_answers(questions, closed_book, "closed_book")
    answerable = np.array([rank is not None and rank <= answerable_k for rank in before.answer_ranks])
    metrics = summarise(columns, np.ones(len(questions), bool), seed=seed)
    if answerable.any():
        metrics |= summarise(columns, answerable, "answerable_", seed=seed)
    metrics |= {
        "calibration_error_before": before.calibration_error,
        "calibration_error_after": after.calibration_error,
        "test_questions": len(questions),
        "answerable_test_questions": int(answerable.sum()),
        "gold_questions": after.gold_questions,
        **{f"test_sharing_{what}": sum(what in question.overlap for question in questions) for what in SHARED},
        "answerable_k": answerable_k,
    }
    facts = {
        "title": title or f"{_last_name(base_parts[2])} with {_last_name(base_parts[0])}",
        "training_log": _training_log(model_folder),
        "rejected": _rejected_by_reason(rejected_path),
        "knowledge_base": after.manifest,
        "parameters": _parameters(model_folder) | {"num_beams": num_beams},
    }
    with atomic_path(output_folder) as folder:
        folder.mkdir()
        _write_json(folder / "metrics.json", metrics)
        _write_json(folder / "facts.json", facts)
        _write_lines(folder / "predictions.jsonl", _records(questions, before, after, closed_book, columns, answerable))
        shown = before.passages | after.passages
        _write_lines(folder / "passages.jsonl", ({"id": name, **passage} for name, passage in shown.items()))
        report_from_folder(folder, folder / "report.html")
        if report_path:
            with atomic_path(report_path) as copy:
                shutil.copyfile(folder / "report.html", copy)
    return metrics


def _side(
    style: str,
    model: RagModel,
    knowledge_base: str | Path,
    questions: Sequence[Question],
    k: int,
    generation: dict[str, int],
) -> _Side:
    texts = [question.question for question in questions]
    with KnowledgeBase.open(knowledge_base, encoder_fingerprint=model.passage_encoder.fingerprint) as base:
        asked = ask(model, base, texts, k=k, progress=True, **generation)
        hits = Hits(questions, asked.rows, base.passages, gold_ids_known(questions, base.passages))
        retrieved = retrieved_entries(asked.rows, asked.probabilities, hits, base.passages)
        rows = np.unique(asked.rows[:, : asked.probabilities.shape[1]])
        passages = [base.passages[row] for row in rows.tolist() if row >= 0]
        manifest = asdict(base.manifest)
    return _Side(
        answers=asked.answers,
        columns=score_answers(questions, asked.answers, style) | hits.columns(style),
        gold_ranks=_ranks(hits.gold),
        answer_ranks=_ranks(hits.answer),
        retrieved=retrieved,
        passages={passage.id: {"title": passage.title, "text": passage.text} for passage in passages},
        calibration_error=hits.calibration_error(asked.probabilities),
        gold_questions=int(hits.asked.sum()),
        manifest=manifest,
    )


def _closed_book_answers(
    folder: str | Path, questions: Sequence[Question], generation: dict[str, int]
) -> list[str] | None:
    if not folder or not (Path(folder).is_dir() and any(Path(folder).iterdir())):
        return None  # training was asked for no baseline
    texts = [question.question for question in questions]
    return ask_closed_book(load_model(folder), texts, progress=True, **generation)


def _records(
    questions: Sequence[Question],
    before: _Side,
    after: _Side,
    closed_book: Sequence[str] | None,
    columns: Columns,
    answerable: np.ndarray,
) -> Iterable[dict[str, Any]]:
    """A line of predictions.jsonl a question."""
    for number, question in enumerate(questions):
        record = {name: value for name, value in asdict(question).items() if name not in ("title", "source")}
        record["answerable"] = bool(answerable[number])
        for style, side in (("before", before), ("after", after)):
            record[f"prediction_{style}"] = side.answers[number]
            record[f"gold_rank_{style}"] = side.gold_ranks[number]
            record[f"answer_rank_{style}"] = side.answer_ranks[number]
            record[f"retrieved_{style}"] = side.retrieved[number]
        record["prediction_closed_book"] = None if closed_book is None else closed_book[number]
        scores = {name: values[number] for name, values in columns.items() if name.startswith(("em_", "f1_"))}
        yield record | {name: float(score) for name, score in scores.items()}


def _ranks(hits: np.ndarray) -> list[int | None]:
    return [rank or None for rank in first_ranks(hits).tolist()]


def _training_log(model_folder: str | Path) -> list[dict[str, float]]:
    path = Path(model_folder) / _TRAINING_LOG
    return json.loads(path.read_text("utf-8")) if path.is_file() else []


def _rejected_by_reason(path: str | Path) -> dict[str, int]:
    if not path:
        return {}
    with open_uri(path, "rt") as lines:
        return dict(Counter(json.loads(line)["reason"] for line in lines))


def _parameters(model_folder: str | Path) -> dict[str, Any]:
    description = read_description(model_folder)
    return {**description["config"], **description["lineage"].get("parameters", {})}


def _last_name(name: str) -> str:
    return name.rstrip("/").rsplit("/", 1)[-1]


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    with open(path, "w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
