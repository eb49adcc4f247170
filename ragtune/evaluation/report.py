"""The report of a run: one HTML page that needs nothing but itself, the answer on top and the evidence below."""

import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from ragtune import __version__
from ragtune.errors import EvaluationError
from ragtune.evaluation.champion_section import IN_WORDS, champion_section
from ragtune.evaluation.charts import dumbbell, percent, plain, points
from ragtune.evaluation.examples import drawn, example_html, lost, won
from ragtune.evaluation.federation_section import federation_section
from ragtune.evaluation.figures import evidence
from ragtune.files import atomic_file

_HASH = re.compile("[0-9a-f]{32,}")  # shown by its first digits
_CARDS = (("em", "Exact match"), ("f1", "F1"), ("recall@5", "Recall@5"))
_ANSWER_ROWS = {"em": "Exact match", "f1": "F1", "rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L"}
_RANKING_ROWS = {
    "recall@1": "Recall@1",
    "recall@5": "Recall@5",
    "recall@20": "Recall@20",
    "mrr@10": "MRR@10",
    "ndcg@10": "nDCG@10",
}
Metrics = Mapping[str, float]


def write_report(
    path: str | Path,
    metrics: Metrics,
    predictions: Sequence[Mapping[str, Any]],
    passages: Mapping[str, Mapping[str, str]],
    *,
    title: str = "ragtune",
    training_log: Sequence[Mapping[str, float]] = (),
    federation: Mapping[str, Any] | None = None,
    champion: Mapping[str, str] | None = None,
    deciding_metric: str = "em",
    rejected: Mapping[str, int] | None = None,
    knowledge_base: Mapping[str, Any] | None = None,
    parameters: Mapping[str, Any] | None = None,
    seconds: Mapping[str, float] | None = None,
) -> None:
    """Write the report, whole or not at all.

    Args:
        path: of the HTML file.
        metrics: what `evaluate` returns; fractions.
        predictions: the lines of predictions.jsonl.
        passages: passage id to {"title", "text"}, for the examples.
        title: what the page is called: a model, a run, a day.
        training_log: {"step", "loss", "em", …} each; steps that lack a name are left out of its curve.
        federation: rounds and sites of one, see `federation_section`.
        champion: its `version`, and the `problem` that kept it from being evaluated; empty where there was none.
        deciding_metric: the score per question by which a model may become champion.
        rejected: how many questions were rejected, by reason.
        knowledge_base, parameters: shown as they are.
        seconds: how long each box of the pipeline took.
    """
    headline, lead = verdict(metrics, deciding_metric)
    sections = [
        evidence(metrics, predictions, training_log),
        federation_section(federation or {}),
        _tables(metrics),
        champion_section(metrics, predictions, champion or {}, deciding_metric),
        _examples("won", "Won: wrong before, right after", [row for row in predictions if won(row)], passages),
        _examples("lost", "Lost: right before, wrong after", [row for row in predictions if lost(row)], passages),
        _movement(metrics),
        _provenance(rejected or {}, knowledge_base or {}, parameters or {}, seconds or {}),
    ]
    write_page(
        path,
        title,
        headline,
        lead,
        "".join(sections),
        cards="".join(_card(metrics, name, label) for name, label in _CARDS),
        legend=_legend(metrics),
    )


def write_page(
    path: str | Path, title: str, verdict: str, lead: str, sections: str, *, cards: str = "", legend: str = ""
) -> None:
    """Write a page in the report's style, whole or not at all; the title is text, all else HTML."""
    template = Template(resources.files("ragtune.evaluation").joinpath("report.html").read_text("utf-8"))
    page = template.substitute(
        title=escape(title),
        verdict=verdict,
        lead=lead,
        cards=cards,
        legend=legend,
        sections=sections,
        footer=f"ragtune {escape(__version__)}. Intervals: paired bootstrap by groups of questions, 95 %.",
    )
    with atomic_file(path) as stream:
        stream.write(page)


def report_from_folder(folder: str | Path, path: str | Path, seconds: Mapping[str, float] | None = None) -> None:
    """Write the report of what `evaluate` left in a folder; again, once the seconds of all boxes are known.

    Raises:
        EvaluationError: the folder is not one that `evaluate` wrote.
    """
    folder = Path(folder)
    try:
        metrics, facts = (json.loads((folder / name).read_text("utf-8")) for name in ("metrics.json", "facts.json"))
        predictions, passages = (_read_lines(folder / name) for name in ("predictions.jsonl", "passages.jsonl"))
    except FileNotFoundError as error:
        raise EvaluationError(
            f"{error.filename}: not there; is {folder} the output folder of an evaluation?"
        ) from error
    write_report(path, metrics, predictions, {row["id"]: row for row in passages}, seconds=seconds, **facts)


def verdict(metrics: Metrics, metric: str = "em") -> tuple[str, str]:
    """The finding in a sentence, and a second sentence on how sure it is and what the passages are worth; HTML."""
    before, after, low, high = (
        metrics[f"{metric}_{name}"] for name in ("before", "after", "difference_low", "difference_high")
    )
    judged = IN_WORDS[metric]
    figures = f"from {percent(before)} to {percent(after)}"
    if low > 0:
        headline = f"Fine-tuning raised {judged} {figures}."
        certainty = "is above zero: more than chance"
    elif high < 0:
        headline = f"Fine-tuning lowered {judged} {figures}."
        certainty = "is below zero: more than chance"
    else:
        headline = f"No clear change: {judged} went {figures}."
        certainty = "contains zero: these questions cannot tell the two apart"
    lead = (
        f"Over {metrics['test_questions']:,.0f} held-out questions the 95 % interval of the change, "
        f"{points(low)} to {points(high)} points, {certainty}."
    )
    if "em_closed_book" in metrics:
        lead += f" The same generator trained without passages answers {percent(metrics['em_closed_book'])}."
    return headline, lead


def _legend(metrics: Metrics) -> str:
    styles = {"before": "before", "after": "after"}
    if "em_closed_book" in metrics:
        styles["closed-book"] = "closed-book (no passages)"
    return "".join(
        f'<span><svg viewBox="0 0 26 12" aria-hidden="true"><g class="{style}">'
        f'<polyline points="1,6 25,6"/><circle cx="13" cy="6" r="3.4"/></g></svg>{label}</span>'
        for style, label in styles.items()
    )


def _card(metrics: Metrics, name: str, label: str) -> str:
    before, after, closed_book = metrics[f"{name}_before"], metrics[f"{name}_after"], metrics.get(f"{name}_closed_book")
    low, high = metrics[f"{name}_difference_low"], metrics[f"{name}_difference_high"]
    if name.startswith("recall"):
        label += " by gold passage" if metrics.get("gold_questions") else " by answer in text"
    beside = "" if closed_book is None else f"<p>closed-book <b>{percent(closed_book)}</b></p>"
    return (
        f'<div class="card"><h2>{label}</h2>'
        f'<p class="figures"><span class="from">{percent(before)}</span><span class="arrow">→</span>'
        f'<span class="to">{percent(after)}</span></p>'
        f"{dumbbell(label, before, after, closed_book)}"
        f"<p><b>{points(metrics[f'{name}_difference'])}</b> points ({points(low)} to {points(high)})</p>"
        f"{beside}</div>"
    )


def _tables(metrics: Metrics) -> str:
    tables = [_table(metrics, "", f"All {metrics['test_questions']:,.0f} held-out questions")]
    if answerable := metrics.get("answerable_test_questions"):
        tables.append(_table(metrics, "answerable_", f"The {answerable:,.0f} answerable ones"))
    note = (
        "A question counts as answerable if a reference answer stands in one of the top "
        f"{metrics['answerable_k']:,.0f} passages that the base retriever finds for it. "
        "The subset flatters that retriever, so the verdict rests on all questions."
    )
    section = f'<section><h2>All figures</h2><p class="note">{note}{_overlap(metrics)}</p>'
    return f'{section}<div class="grid charts">{"".join(tables)}</div></section>'


def _overlap(metrics: Metrics) -> str:
    """A sentence on what the held-out questions have in common with those of training; "" if nothing."""
    kinds = {"title": "a document", "gold": "a gold passage", "question": "the question itself"}
    shared = [
        f"{metrics[f'test_sharing_{what}']:,.0f} share {words}"
        for what, words in kinds.items()
        if metrics.get(f"test_sharing_{what}")
    ]
    if not shared:
        return ""
    return (
        f" Of the held-out questions {', '.join(shared)} with a training question; "
        "<code>split_by</code> title or gold keeps such questions on one side."
    )


def _table(metrics: Metrics, prefix: str, caption: str) -> str:
    groups = [("Answers", _ANSWER_ROWS, "")]
    if metrics.get("gold_questions"):
        groups.append(("Passages, by gold passage", _RANKING_ROWS, ""))
    groups.append(("Passages, by answer in the text", _RANKING_ROWS, "answer_"))
    columns = ["", "before", "after", "change", *(["closed book"] if "em_closed_book" in metrics else [])]
    head = "".join(f"<th scope=col>{name}</th>" for name in columns)
    body = "".join(
        f"<tbody><tr><th class=group colspan={len(columns)} scope=rowgroup>{heading}</th></tr>"
        + "".join(_row(metrics, f"{prefix}{kind}{name}", label) for name, label in rows.items())
        + "</tbody>"
        for heading, rows, kind in groups
    )
    return (
        f'<figure><figcaption>{caption}</figcaption><div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"{body}</table></div></figure>"
    )


def _row(metrics: Metrics, key: str, label: str) -> str:
    if f"{key}_after" not in metrics:
        return ""
    before, after = metrics[f"{key}_before"], metrics[f"{key}_after"]
    by_heart = metrics.get(f"{key}_closed_book")
    closed_book = f"<td>{'' if by_heart is None else percent(by_heart)}</td>" if "em_closed_book" in metrics else ""
    direction = "up" if after > before else "down" if after < before else "same"
    return (
        f"<tr><th scope=row>{label}</th><td>{percent(before)}</td><td>{percent(after)}</td>"
        f"<td class={direction}>{points(after - before)}</td>{closed_book}</tr>"
    )


def _examples(
    name: str, heading: str, rows: Sequence[Mapping[str, Any]], passages: Mapping[str, Mapping[str, str]]
) -> str:
    shown = drawn(rows)
    note = f"{len(rows):,} questions" + (f"; {len(shown)} of them, drawn by chance." if len(shown) < len(rows) else ".")
    cards = "".join(example_html(row, passages, open_=place == 0) for place, row in enumerate(shown))
    return f'<section id="{name}"><h2>{heading}</h2><p class="note">{note}</p>{cards}</section>'


def _movement(metrics: Metrics) -> str:
    """The section on what each part has learnt; "" where the evaluation does not know."""
    prefix = "moved_"
    moved = {
        name.removeprefix(prefix): f"{100 * value:.3g} %" for name, value in metrics.items() if name.startswith(prefix)
    }
    if not moved:
        return ""
    note = (
        "The norm of what training changed in each part, as a share of the norm of its weights before. A part at 0 was "
        "frozen, or its best step was the base model itself."
    )
    table = f'<div class="facts">{_fact_table("Moved by training", moved)}</div>'
    return f'<section><h2>What each part learnt</h2><p class="note">{note}</p>{table}</section>'


def _provenance(
    rejected: Mapping[str, int],
    knowledge_base: Mapping[str, Any],
    parameters: Mapping[str, Any],
    seconds: Mapping[str, float],
) -> str:
    tables = [
        _fact_table("Questions rejected, by reason", dict(sorted(rejected.items(), key=lambda item: -item[1]))),
        _fact_table("Knowledge base", knowledge_base),
        _fact_table("Seconds per box", {box: f"{value:,.1f}" for box, value in seconds.items()}),
        _fact_table("Parameters", parameters),
    ]
    return f'<section><h2>What it is made of</h2><div class="facts">{"".join(tables)}</div></section>'


def _fact_table(caption: str, facts: Mapping[str, Any]) -> str:
    if not facts:
        return ""
    rows = "".join(
        f"<tr><th scope=row>{escape(str(name).replace('_', ' '))}</th><td>{escape(_shown(value))}</td></tr>"
        for name, value in facts.items()
    )
    return f'<div class="fact"><h3>{caption}</h3><table><tbody>{rows}</tbody></table></div>'


def _shown(value: Any) -> str:
    if value is None:
        return "not finite"  # as strict JSON has it
    if isinstance(value, str) and _HASH.fullmatch(value):
        return value[:12]
    return plain(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _read_lines(path: Path) -> list[dict[str, Any]]:
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
