"""An ablation on a page: does each part learn, is training both better than one, and how sure that is."""

from html import escape
from pathlib import Path

from ragtune.evaluation.ablation import (
    BOTH,
    CLOSED_BOOK,
    DECIDING,
    GENERATOR,
    RETRIEVER,
    SCORES,
    UNTRAINED,
    Ablation,
    Arm,
    Contrast,
)
from ragtune.evaluation.charts import interval_chart, percent, points
from ragtune.evaluation.comparison import Comparison
from ragtune.evaluation.movement import PARTS
from ragtune.evaluation.report import write_page

_HEADINGS = {"em": "Exact match", "recall@1": "Recall@1"}
_WHO = {
    RETRIEVER: "The retriever alone",
    GENERATOR: "The generator alone",
    BOTH: "Training both parts",
}


def write_ablation(path: str | Path, ablation: Ablation, title: str = "ablation") -> None:
    """Write the ablation as an HTML page in the report's style, whole or not at all."""
    headline, lead = verdict(ablation)
    write_page(path, title, escape(headline), escape(lead), ablation_section(ablation))


def verdict(ablation: Ablation) -> tuple[str, str]:
    """A sentence that says whether training both parts beats the better one alone, and one on each part; text."""
    alone = [name for part in (RETRIEVER, GENERATOR) for name in ablation.of(part)[:1]]
    learnt = [_learnt(ablation, name) for name in alone]
    both = ablation.of(BOTH)
    if not (both and alone):
        missing = "one part alone" if both else "both parts"
        learnt = learnt or [_learnt(ablation, name) for name in both[:1]]
        return f"No arm trains {missing}: apart and together cannot be compared.", " ".join(learnt)
    best = max(alone, key=lambda name: ablation.trained[name].mean("em"))
    contrast = ablation.contrast(both[0], best, "em")
    assert contrast is not None
    comparison = contrast.comparison
    if comparison.better:
        finding = "Training both parts is better than training one"
    elif comparison.worse:
        finding = "Training both parts is worse than training one"
    else:
        finding = "No clear difference between training both parts and one"
    ours, theirs = (percent(ablation.arms[name].mean("em")) for name in (both[0], best))
    headline = f"{finding}: {both[0]} answers {ours}, {best} {theirs}."
    chosen = " It is the best of several arms, chosen on these questions, which flatters it." if len(both) > 1 else ""
    sure = f"The difference is {_interval(comparison)} points over {comparison.questions:,} questions.{chosen}"
    return headline, " ".join([sure, *learnt])


def ablation_section(ablation: Ablation) -> str:
    """The section as HTML: a table of the arms, a chart of what each gains, a table of the differences."""
    contrasts = list(ablation.contrasts())
    note = (
        "All arms start from one model and answer the same questions. An arm trains the parts that have moved: the "
        "norm of what training changed, as a share of the norm of the weights before. They are compared as they are: "
        "one that trained for more steps has had more to learn from."
    )
    several = max(len(arm.scores["em"]) for arm in ablation.arms.values()) > 1
    if several:
        note += (
            " Scores are means over runs, with the lowest and the highest run; intervals are over the questions, each "
            "taken with its mean over the runs."
        )
    charts = "".join(_gains(score, contrasts) for score in SCORES)
    return (
        f'<section id="ablation"><h2>Each part alone, and both</h2><p class="note">{note}</p>'
        f'{_arms_table(ablation)}<div class="grid charts">{charts}</div></section>'
        '<section><h2>Differences</h2><p class="note">Points, with paired 95 % intervals. Better or worse: the '
        "interval excludes zero and so does an exact permutation test, p ≤ .05. Of comparisons of equals up to one in "
        f"twenty looks clear by chance.</p>{_differences_table(contrasts)}</section>"
    )


def _learnt(ablation: Ablation, name: str) -> str:
    """A sentence on one arm against the start, by the score that its part is judged by."""
    trains = ablation.trained[name].trains
    score = DECIDING[trains]
    contrast = ablation.contrast(name, UNTRAINED, score)
    who = f"{_WHO[trains]} ({name})"
    if contrast is None:
        return f"{who} cannot be judged: no question has {SCORES[score]}."
    comparison = contrast.comparison
    if comparison.better:
        outcome = "helps"
    elif comparison.worse:
        outcome = "harms"
    else:
        outcome = "shows no clear change"
    return f"{who} {outcome}: {_interval(comparison)} points of {SCORES[score]}."


def _interval(comparison: Comparison) -> str:
    found = comparison.interval
    return f"{points(found.difference)} ({points(found.low)} to {points(found.high)})"


def _arms_table(ablation: Ablation) -> str:
    names = ("", "trains", *_HEADINGS.values(), *(f"{part.replace('_', ' ')} moved" for part in PARTS))
    head = "".join(f"<th scope=col>{name}</th>" for name in names)
    rows = []
    for name, arm in ablation.arms.items():
        cells = [_trains(name, arm), *(_score(arm, score) for score in SCORES), *(_moved(name, arm, p) for p in PARTS)]
        rows.append(f"<tr><th scope=row>{escape(name)}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    return _table("Arms", head, rows)


def _trains(name: str, arm: Arm) -> str:
    return GENERATOR if name == CLOSED_BOOK else arm.trains or "nothing"


def _score(arm: Arm, score: str) -> str:
    if score not in arm.scores:
        return ""
    runs = arm.by_run(score)
    spread = f" ({100 * min(runs):.1f} to {100 * max(runs):.1f})" if min(runs) < max(runs) else ""
    return f"{percent(arm.mean(score))}{spread}"


def _moved(name: str, arm: Arm, part: str) -> str:
    if name == CLOSED_BOOK:
        return ""
    return f"{100 * arm.moved[part]:.3g} %" if part in arm.moved else "another architecture"


def _gains(score: str, contrasts: list[Contrast]) -> str:
    intervals = {
        contrast.ours: contrast.comparison.interval
        for contrast in contrasts
        if contrast.score == score and contrast.theirs == UNTRAINED
    }
    if not intervals:
        return ""
    title = f"{_HEADINGS[score]} gained over the untrained model"
    chart = interval_chart(title, "points, 95 % interval", intervals)
    return f"<figure><figcaption>{title}</figcaption>{chart}</figure>"


def _differences_table(contrasts: list[Contrast]) -> str:
    head = "".join(
        f"<th scope=col>{name}</th>" for name in ("", "by", "difference", "95 % interval", "won", "lost", "p", "")
    )
    rows = []
    for contrast in contrasts:
        found = contrast.comparison
        style, word = ("up", "better") if found.better else ("down", "worse") if found.worse else ("same", "unclear")
        cells = [
            SCORES[contrast.score],
            points(found.interval.difference),
            f"{points(found.interval.low)} to {points(found.interval.high)}",
            f"{found.wins:,}",
            f"{found.losses:,}",
            escape(found.p_shown.removeprefix("= ")),
        ]
        rows.append(
            f"<tr><th scope=row>{escape(contrast.ours)} − {escape(contrast.theirs)}</th>"
            f"{''.join(f'<td>{cell}</td>' for cell in cells)}<td class={style}>{word}</td></tr>"
        )
    return _table("Differences", head, rows)


def _table(caption: str, head: str, rows: list[str]) -> str:
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f'<figure><figcaption>{caption}</figcaption><div class="scroll">{table}</div></figure>'
