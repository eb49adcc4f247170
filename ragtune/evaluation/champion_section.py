"""The report's section on promotion: this model beside today's champion, and what these questions can tell."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ragtune.evaluation.bootstrap import CONFIDENCE
from ragtune.evaluation.charts import percent, points, whole_percent
from ragtune.evaluation.comparison import POWER, Comparison, compare

_ROWS = {
    "em": "Exact match",
    "f1": "F1",
    "recall@1": "Recall@1",
    "recall@5": "Recall@5",
    "answer_recall@5": "Recall@5 by answer",
}
IN_WORDS = {"em": "exact match", "recall@1": "recall@1", "answer_recall@1": "recall@1 by answer"}  # what may decide
_A_SMALL_DIFFERENCE = 0.02


def champion_section(
    metrics: Mapping[str, float],
    predictions: Sequence[Mapping[str, Any]],
    champion: Mapping[str, str],
    metric: str = "em",
) -> str:
    """The section as HTML.

    Args:
        metrics: what `evaluate` returns.
        predictions: the lines of predictions.jsonl.
        champion: `version`, `problem` and `note` of the champion at the time, see `evaluate_champion`; empty: there was
            none.
        metric: the score per question that decides.
    """
    evaluated = "em_champion" in metrics
    opponent = "champion" if evaluated else "before"
    scores = ([row[f"{metric}_{style}"] for row in predictions] for style in ("after", opponent))
    after, theirs = ([math.nan if score is None else score for score in side] for side in scores)
    comparison = compare(after, theirs, groups=[row["group"] for row in predictions])
    parts = [f'<p class="note">{_situation(champion, evaluated)}</p>']
    if evaluated:
        parts.append(_table(metrics))
    parts += [f'<p class="note">{text}</p>' for text in (_finding(comparison, evaluated, metric), _power(comparison))]
    return f'<section id="champion"><h2>Against the champion</h2>{"".join(parts)}</section>'


def _situation(champion: Mapping[str, str], evaluated: bool) -> str:
    if not champion:
        return (
            "There was no champion when this model was evaluated. The first one is a model that beats its own base, "
            "the model before; one that does not is registered as a baseline."
        )
    title = f"The champion, version {escape(champion['version'])},"
    if evaluated:
        note = champion.get("note", "")
        told = f" Of their comparison: {escape(note)}." if note else ""
        return f"{title} was asked the same questions, each model on its own knowledge base.{told}"
    return (
        f"{title} could not be asked these questions: {escape(champion['problem'])} It keeps its place unless the run "
        "says <code>promote: force</code>. The numbers below compare it with the model before."
    )


def _finding(comparison: Comparison, evaluated: bool, metric: str) -> str:
    low, high = comparison.interval.low, comparison.interval.high
    return (
        f"By {IN_WORDS[metric]} this model wins {comparison.wins:,} questions and loses {comparison.losses:,} against "
        f"{'the champion' if evaluated else 'the model before'}: {points(comparison.interval.difference)} points, 95 % "
        f"interval {points(low)} to {points(high)}, exact permutation test p {escape(comparison.p_shown)}. To be "
        f"promoted, a model needs an interval above zero and p of at most {1 - CONFIDENCE:.2f}: this one "
        f"<b>{'passes' if comparison.better else 'does not pass'}</b>. Registration decides, provided that the "
        "champion is still the same by then and there are enough questions. The level holds for one decision: of many "
        "equally good models some pass by chance; with one trained each night, at least one of 30 does so with a "
        "probability of about .4."
    )


def _power(comparison: Comparison) -> str:
    grouped = f" in {comparison.groups:,} groups" if comparison.groups < comparison.questions else ""
    differing = percent((comparison.wins + comparison.losses) / comparison.questions)
    begun = (
        f"Power: with {comparison.questions:,} questions{grouped}, of which the two answer {differing} differently, "
    )
    smallest, chance = comparison.detectable, comparison.power(_A_SMALL_DIFFERENCE)
    if smallest is None:
        return f"{begun}no difference, however large, would pass with {whole_percent(POWER)} probability: take more."
    return (
        f"{begun}a true difference of {points(smallest)} points would pass with {whole_percent(POWER)} probability, "
        f"and one of {points(_A_SMALL_DIFFERENCE)} with {whole_percent(chance)}. More held-out questions detect "
        f"smaller differences.{_about_groups(comparison)}"
    )


def _about_groups(comparison: Comparison) -> str:
    if comparison.groups == comparison.questions:
        return ""
    return (
        " Questions that share a document or gold passage are one group: they are resampled and change sides together, "
        f"as they are right or wrong together, so that these tell as much as "
        f"{comparison.questions / comparison.design_effect:,.0f} questions that are all apart."
    )


def _table(metrics: Mapping[str, float]) -> str:
    head = "".join(
        f"<th scope=col>{name}</th>" for name in ("", "champion", "this model", "difference", "95 % interval")
    )
    rows = "".join(
        f"<tr><th scope=row>{label}</th><td>{percent(metrics[f'{name}_champion'])}</td>"
        f"<td>{percent(metrics[f'{name}_after'])}</td><td>{points(metrics[f'{name}_champion_difference'])}</td>"
        f"<td>{points(metrics[f'{name}_champion_difference_low'])} to "
        f"{points(metrics[f'{name}_champion_difference_high'])}</td></tr>"
        for name, label in _ROWS.items()
        if f"{name}_champion_difference" in metrics
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<figure><div class="scroll">{table}</div></figure>'
