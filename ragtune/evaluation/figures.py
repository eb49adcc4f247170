"""The report's charts, each with the sentence under it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ragtune.evaluation.calibration import Calibration, calibration, right_as_one
from ragtune.evaluation.charts import Series, bar_chart, line_chart, thinned, whole_percent

_CURVE_DEPTH = 20  # recall@1 … recall@20
_FEWEST_IN_A_BIN = 5  # a share of fewer passages is noise


def evidence(
    metrics: Mapping[str, float], predictions: Sequence[Mapping[str, Any]], log: Sequence[Mapping[str, float]]
) -> str:
    """The section of charts, as HTML; a chart whose data are not there is left out."""
    figures = [
        _answers_figure(metrics),
        _recall_figure(metrics, predictions),
        _turns_figure(predictions),
        _calibration_figure(metrics, predictions),
    ]
    if losses := _curve(log, "loss"):
        chart = line_chart("Training loss", [Series("loss", "after", thinned(losses))], "step", "loss")
        figures.append(_figure("Training loss", chart, "Mean over the batch of the method's own loss, in nats."))
    if scores := _curve(log, "em"):
        series = [Series("validation EM", "after", thinned(scores))]
        chart = line_chart("Exact match while training", series, "step", "exact match", y_format=whole_percent)
        figures.append(_figure("Exact match while training", chart, "On validation questions, not on those held out."))
    return f'<section><h2>The evidence</h2><div class="grid charts">{"".join(figures)}</div></section>'


def _answers_figure(metrics: Mapping[str, float]) -> str:
    names = (("em", "EM"), ("f1", "F1"), ("rouge1", "ROUGE-1"), ("rougeL", "ROUGE-L"))
    series = [
        Series(style, style, [(place, metrics[f"{name}_{suffix}"]) for place, (name, _) in enumerate(names)])
        for style, suffix in (("before", "before"), ("after", "after"), ("closed-book", "closed_book"))
        if f"em_{suffix}" in metrics
    ]
    chart = bar_chart("Answers", [label for _, label in names], series)
    order = ", ".join(bars.label for bars in series)
    return _figure("Answers, in per cent", chart, f"From left to right: {order}.")


def _turns_figure(predictions: Sequence[Mapping[str, Any]]) -> str:
    turns = (("right twice", 1, 1), ("won", 0, 1), ("lost", 1, 0), ("wrong twice", 0, 0))
    counts = [
        sum(row["em_before"] == before and row["em_after"] == after for row in predictions)
        for _, before, after in turns
    ]
    shares = [(float(place), count / len(predictions)) for place, count in enumerate(counts)]
    chart = bar_chart("Question by question", [name for name, *_ in turns], [Series("questions", "after", shares)])
    described = ", ".join(f"{count:,} {name}" for (name, *_), count in zip(turns, counts, strict=True))
    return _figure("Question by question, in per cent", chart, f"By exact match: {described}.")


def _recall_figure(metrics: Mapping[str, float], predictions: Sequence[Mapping[str, Any]]) -> str:
    by_gold = bool(metrics.get("gold_questions"))
    name = "gold_rank" if by_gold else "answer_rank"
    asked = [row for row in predictions if row["gold_ids"]] if by_gold else predictions
    series = []
    for style in ("before", "after"):
        ranks = np.array([row[f"{name}_{style}"] or np.inf for row in asked])
        series.append(Series(style, style, [(k, float(np.mean(ranks <= k))) for k in range(1, _CURVE_DEPTH + 1)]))
    chart = line_chart(
        "Recall@k",
        series,
        "k, passages retrieved",
        "recall",
        y_format=whole_percent,
        x_range=(1, _CURVE_DEPTH),
        y_range=(0, 1),
    )
    found = "a gold passage" if by_gold else "a passage that holds an answer"
    note = f"Share of questions with {found} among the first k."
    if (index := metrics.get("index_recall@5_after")) is not None:
        note += f" Of the first 5 passages of exact search, the index found {index:.1%}."
    return _figure("Recall@k", chart, note)


def _calibration_figure(metrics: Mapping[str, float], predictions: Sequence[Mapping[str, Any]]) -> str:
    flag = "gold" if metrics.get("gold_questions") else "answer"
    series, errors = [], []
    for style in ("before", "after"):
        outcomes = [right_as_one(*known) for row in predictions if (known := _judged(row[f"retrieved_{style}"], flag))]
        if not outcomes:
            continue
        shares, right = (np.concatenate(part) for part in zip(*outcomes, strict=True))
        curve = calibration(shares, right)
        errors.append(f"{style} {curve.error:.3f}")
        if points := _points_of(curve):
            series.append(Series(style, style, points))
    if not series:
        return ""
    chart = line_chart(
        "Calibration of p(z|x)",
        series,
        "p(z|x)",
        "share right",
        x_range=(0, 1),
        y_range=(0, 1),
        y_format=whole_percent,
        diagonal=True,
    )
    good = "are gold" if flag == "gold" else "hold an answer"
    note = (
        f"Share of the passages given this probability that {good}, those of one question as one with the sum of their"
        " probabilities; on the dotted line p(z|x) means what it says, though not for each single passage where several"
        " of a question are right."
        f" Expected calibration error: {', '.join(errors)}."
    )
    return _figure("Calibration of p(z|x)", chart, note)


def _judged(entries: Sequence[Mapping[str, Any]], flag: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Probabilities and flags of one question's passages; None where its flags are not known."""
    if not entries or entries[0][flag] is None:
        return None
    return np.array([entry["probability"] for entry in entries]), np.array([entry[flag] for entry in entries])


def _points_of(curve: Calibration) -> list[tuple[float, float]]:
    enough = curve.passages >= _FEWEST_IN_A_BIN
    return list(zip(curve.probability[enough].tolist(), curve.share_right[enough].tolist(), strict=True))


def _figure(caption: str, chart: str, note: str) -> str:
    return f'<figure><figcaption>{caption}</figcaption>{chart}<p class="note">{note}</p></figure>'


def _curve(log: Sequence[Mapping[str, float]], name: str) -> list[tuple[float, float]]:
    """A loss that went to infinity cannot be drawn; its step is left out."""
    known = [(row["step"], row[name]) for row in log if row.get(name) is not None]
    return [(float(step), float(value)) for step, value in known if math.isfinite(value)]
