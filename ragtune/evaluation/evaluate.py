"""The evaluation of a run: the fine-tuned model against its base, the closed-book baseline and today's champion."""

import json
import math
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ragtune import strict_json
from ragtune.errors import EvaluationError
from ragtune.evaluation.champion import Champion, deciding_metric
from ragtune.evaluation.comparison import compare
from ragtune.evaluation.movement import moved_parts
from ragtune.evaluation.report import report_from_folder
from ragtune.evaluation.scoring import RECALL_AT, Columns, score_answers, summarise
from ragtune.evaluation.sides import Side, closed_book_answers, evaluate_champion, evaluate_side
from ragtune.files import atomic_path, open_uri
from ragtune.models.checkpoint import load_model, read_description
from ragtune.models.rag import RagModel
from ragtune.progress import say
from ragtune.questions.groups import groups_of
from ragtune.questions.question import SHARED, Question, read_kept_questions

_KEPT_SCORES = (
    "em_",
    "f1_",
    "recall@1_",
    "recall@5_",
    "answer_recall@1_",
    "answer_recall@5_",
)  # what a question's line of predictions.jsonl has, for each model
_TRAINING_LOG, _FEDERATION = "training_log.json", "federation.json"
# What KFP's page shows, and its REST API hands out by way of the log; all figures are in metrics.json.
HEADLINES = (
    *(f"{name}_{side}" for name in ("em", "f1", "recall@5") for side in ("before", "after")),
    "em_closed_book",
    "em_champion",
    "mrr@10_after",
    "index_recall@5_after",
    "test_questions",
)


def evaluate(
    model_folder: str | Path,
    base_parts: tuple[str, str, str],
    questions_path: str | Path,
    knowledge_base_folder: str | Path,
    output_folder: str | Path,
    *,
    closed_book_folder: str | Path = "",
    base_knowledge_base_folder: str | Path = "",
    champion: Champion | None = None,
    report_path: str | Path = "",
    rejected_path: str | Path = "",
    title: str = "",
    num_beams: int = 2,
    batch_size: int = 16,
    answerable_k: int = 10,
    retrieval: str = "direct",
    seed: int = 0,
) -> dict[str, float]:
    """Put all held-out questions to the model before and after, to the closed-book baseline and to today's champion.

    A question counts as answerable if a reference stands in one of the first `answerable_k` passages that the base
    retriever finds for it; the metrics over those carry the prefix `answerable_`. They flatter the base retriever,
    so the metrics over all questions are the ones to quote.

    Args:
        model_folder: the fine-tuned model.
        base_parts: question encoder, passage encoder and generator that fine-tuning started from.
        questions_path: held-out questions, JSONL that `filter_questions` wrote.
        knowledge_base_folder: made with the fine-tuned model's passage encoder.
        output_folder: gets metrics.json, predictions.jsonl, passages.jsonl, facts.json and report.html, all or nothing.
        closed_book_folder: the baseline that `finetune` trained without passages; "" or an empty folder: none.
        base_knowledge_base_folder: where fine-tuning trained the passage encoder, the one made before; "": the same.
        champion: the model to beat, asked on the knowledge base of its own lineage; where that or the model is gone,
            the report and facts.json say so, and the rest of the evaluation stands. Questions that one of the two
            learnt from are left out between them.
        report_path: where the report goes too.
        rejected_path: JSONL of rejected questions, counted by reason in the report.
        title: of the report.
        num_beams: beams per passage when answers are generated.
        batch_size: questions that are answered at once.
        answerable_k: see above.
        retrieval: as in training; "exact" searches without the index.
        seed: random seed of the bootstrap.

    Returns:
        The metrics, fractions: em, f1, rouge1, rouge2, rougeL with `_before`, `_after`, `_closed_book`; recall@1, @5,
        @20, mrr@10, ndcg@10 with `_before`, `_after`, by gold id where gold ids are known, else by answer string, and
        always by answer string with the prefix `answer_`; all of these with `_champion` too, if there is one;
        differences with intervals, see `summarise`; all of it again with the prefix `answerable_`;
        calibration_error_before and _after; index_recall@1, @5, @20, what the index finds of what exact search
        finds, where there is an index; detectable_difference of what decides on promotion, see
        `Comparison.detectable`; and the counts
        test_questions, test_groups (`groups_of` them), answerable_test_questions, gold_questions, answerable_k, and
        test_sharing_title, _gold and _question: how many have theirs in common with a training question, as
        `filter_questions` found; moved_<part>, see `moved_parts`. What is not known, or not finite, is left out.

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
    after = evaluate_side("after", model, knowledge_base_folder, questions, k, generation, retrieval=retrieval)
    model.to("cpu")  # before the next one is moved there: a GPU may hold one of them only
    base = RagModel.from_parts(*base_parts, model.config)
    moved = moved_parts(base, model)
    del model
    before = evaluate_side(
        "before",
        base,
        base_knowledge_base_folder or knowledge_base_folder,
        questions,
        k,
        generation,
        retrieval=retrieval,
    )
    del base
    closed_book = closed_book_answers(closed_book_folder, questions, generation)
    sides, told = {"before": before, "after": after}, {}
    if champion:
        theirs, problem, note = evaluate_champion(
            champion, model_folder, questions, k, generation, after.gold_questions > 0, retrieval
        )
        sides |= {"champion": theirs} if theirs else {}
        told = {"version": champion.version, "problem": problem, "note": note}

    columns: Columns = {}
    for side in sides.values():
        columns |= side.columns
    if closed_book is not None:
        columns |= score_answers(questions, closed_book, "closed_book")
    answerable = np.array([rank is not None and rank <= answerable_k for rank in before.answer_ranks])
    groups = groups_of(questions)
    metrics = summarise(columns, np.ones(len(questions), bool), seed=seed, groups=groups)
    if answerable.any():
        metrics |= summarise(columns, answerable, "answerable_", seed=seed, groups=groups)
    opponent = "champion" if "champion" in sides else "before"
    scores = {name.rpartition("_")[0] for name in columns if name.endswith(f"_{opponent}")}
    metric = deciding_metric(model_folder, scores)
    compared = compare(columns[f"{metric}_after"], columns[f"{metric}_{opponent}"], groups=groups)
    metrics |= {
        "detectable_difference": compared.detectable or math.nan,
        "calibration_error_before": before.calibration_error,
        "calibration_error_after": after.calibration_error,
        "test_questions": len(questions),
        "test_groups": len(set(groups.tolist())),
        "answerable_test_questions": int(answerable.sum()),
        "gold_questions": after.gold_questions,
        **{f"test_sharing_{what}": sum(what in question.overlap for question in questions) for what in SHARED},
        "answerable_k": answerable_k,
        **moved,
        **{f"{name}_{style}": value for style, side in sides.items() for name, value in side.index_recall.items()},
    }
    metrics = {name: value for name, value in metrics.items() if math.isfinite(value)}
    facts = {
        "title": title or f"{_last_name(base_parts[2])} with {_last_name(base_parts[0])}",
        "training_log": _read_json(model_folder, _TRAINING_LOG) or [],
        "federation": _read_json(model_folder, _FEDERATION) or {},
        "rejected": _rejected_by_reason(rejected_path),
        "champion": told,
        "deciding_metric": metric,
        "knowledge_base": after.manifest,
        "parameters": _parameters(model_folder) | {"num_beams": num_beams},
    }
    with atomic_path(output_folder) as folder:
        folder.mkdir()
        _write_json(folder / "metrics.json", metrics)
        _write_json(folder / "facts.json", facts)
        _write_lines(folder / "predictions.jsonl", _records(questions, groups, sides, closed_book, columns, answerable))
        shown = {name: passage for side in reversed(sides.values()) for name, passage in side.passages.items()}
        _write_lines(folder / "passages.jsonl", ({"id": name, **passage} for name, passage in shown.items()))
        report_from_folder(folder, folder / "report.html")
        if report_path:
            with atomic_path(report_path) as copy:
                shutil.copyfile(folder / "report.html", copy)
    say("metrics: " + json.dumps({name: metrics[name] for name in HEADLINES if name in metrics}))
    return metrics


def _records(
    questions: Sequence[Question],
    groups: np.ndarray,
    sides: Mapping[str, Side],
    closed_book: Sequence[str] | None,
    columns: Columns,
    answerable: np.ndarray,
) -> Iterable[dict[str, Any]]:
    """One line of predictions.jsonl per question."""
    for number, question in enumerate(questions):
        record = {name: value for name, value in asdict(question).items() if name not in ("title", "source")}
        record |= {"group": int(groups[number]), "answerable": bool(answerable[number])}
        for style, side in sides.items():
            record[f"prediction_{style}"] = side.answers[number]
            record[f"gold_rank_{style}"] = side.gold_ranks[number]
            record[f"answer_rank_{style}"] = side.answer_ranks[number]
            record[f"retrieved_{style}"] = side.retrieved[number]
        record["prediction_closed_book"] = None if closed_book is None else closed_book[number]
        scores = {name: values[number] for name, values in columns.items() if name.startswith(_KEPT_SCORES)}
        yield record | {name: float(score) for name, score in scores.items()}


def _read_json(model_folder: str | Path, name: str) -> Any:
    path = Path(model_folder) / name
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


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
    path.write_text(strict_json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    with open(path, "w", encoding="utf-8") as stream:
        stream.writelines(strict_json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
