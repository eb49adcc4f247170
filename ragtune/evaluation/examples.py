"""Questions that fine-tuning won or lost, shown with what was retrieved: the deep end of the report."""

import hashlib
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ragtune.questions.normalization import normalize_for_matching, normalized_answers, stands_in
from ragtune.questions.unspaced import has_unspaced, split_words, word_spans

EXAMPLES = 10


def won(prediction: Mapping[str, Any]) -> bool:
    """Wrong before, right after, by exact match."""
    return bool(prediction["em_after"] > prediction["em_before"])


def lost(prediction: Mapping[str, Any]) -> bool:
    """Right before, wrong after, by exact match."""
    return bool(prediction["em_after"] < prediction["em_before"])


def drawn(predictions: Sequence[Mapping[str, Any]], most: int = EXAMPLES) -> list[Mapping[str, Any]]:
    """At most `most` of them, by a hash of the question: chosen by chance, yet the same at every run."""
    return sorted(predictions, key=lambda row: hashlib.sha256(str(row["question"]).encode()).digest())[:most]


def example_html(prediction: Mapping[str, Any], passages: Mapping[str, Mapping[str, str]], open_: bool = False) -> str:
    """One question as HTML: references, the three answers, and the passages before and after side by side.

    Args:
        prediction: a line of predictions.jsonl.
        passages: passage id to {"title", "text"}; a passage that is not there is shown by its id.
        open_: whether the passages are unfolded.
    """
    answers = list(prediction["answers"])
    given = [_answer_html(label, prediction, style) for label, style in (("before", "before"), ("after", "after"))]
    if prediction.get("prediction_closed_book") is not None:
        given.append(_answer_html("closed-book", prediction, "closed_book"))
    columns = "".join(
        f'<div><h4 class="{style}-text">Retrieved {style}</h4>'
        + "".join(_passage_html(entry, passages, answers) for entry in prediction[f"retrieved_{style}"])
        + "</div>"
        for style in ("before", "after")
    )
    return (
        f"<article><h3>{escape(prediction['question'])}</h3>"
        f'<p class="references">Reference: {" <i>or</i> ".join(f"<b>{escape(answer)}</b>" for answer in answers)}</p>'
        f'<dl class="answers">{"".join(given)}</dl>'
        f"<details{' open' if open_ else ''}><summary>Passages and p(z|x)</summary>"
        f'<div class="passages">{columns}</div></details></article>'
    )


def highlight(text: str, answers: Sequence[str]) -> str:
    """`text` as escaped HTML with every answer in it marked, matched word by word after SQuAD normalisation.

    >>> highlight("Along the Nile, Egypt", ["nile"])
    'Along the <mark>Nile,</mark> Egypt'
    """
    spans = word_spans(text)
    tokens = [text[start:end] for start, end in spans]
    words = [(word, place) for place, token in enumerate(tokens) for word in split_words(normalize_for_matching(token))]
    if has_unspaced(text):  # punctuation among such letters does not count
        words = [(word, place) for word, place in words if any(map(str.isalnum, word))]
    starts, ends = set(), set()
    free = 0  # tokens before this are marked already
    normalized = normalize_for_matching(text)
    found = [answer for answer in normalized_answers(answers) if stands_in(normalized, answer)]
    wanted = sorted(map(split_words, found), key=len, reverse=True)
    for first in range(len(words)):
        for answer in wanted:
            last = first + len(answer) - 1
            if answer and words[first][1] >= free and [word for word, _ in words[first : last + 1]] == answer:
                starts.add(words[first][1])
                ends.add(words[last][1])
                free = words[last][1] + 1
                break
    marked, done = "", 0
    for place, (start, end) in enumerate(spans):
        marked += escape(text[done:start])
        marked += ("<mark>" if place in starts else "") + escape(tokens[place]) + ("</mark>" if place in ends else "")
        done = end
    return marked + escape(text[done:])


def _answer_html(label: str, prediction: Mapping[str, Any], name: str) -> str:
    right = prediction[f"em_{name}"] == 1
    said = escape(prediction[f"prediction_{name}"]) or "<i>nothing</i>"
    sign, meaning = ("✓", "right") if right else ("✗", "wrong")
    return (
        f'<div class="{meaning}"><dt>{label}</dt>'
        f'<dd><span class="sign" role="img" aria-label="{meaning}">{sign}</span> {said}</dd></div>'
    )


def _passage_html(entry: Mapping[str, Any], passages: Mapping[str, Mapping[str, str]], answers: Sequence[str]) -> str:
    passage = passages.get(entry["id"], {"title": entry["id"], "text": ""})
    probability = float(entry["probability"])
    gold = ' <span class="gold">gold</span>' if entry.get("gold") else ""
    return (
        f'<div class="passage"><p><span class="meter" aria-hidden="true"><span style="width:{100 * probability:.1f}%">'
        f"</span></span><b>{probability:.3f}</b> {escape(passage['title']) or escape(entry['id'])}{gold}</p>"
        f"<p>{highlight(passage['text'], answers)}</p></div>"
    )
