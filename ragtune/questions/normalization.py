"""Equality of answers, equality of questions, and an answer's presence in a passage."""

import re
import string
import unicodedata
from collections.abc import Iterable, Sequence

from ragtune.questions.unspaced import begins_word, ends_word, fold


class _AllPunctuation(dict[int, int | None]):
    """For `str.translate`: punctuation of any script to nothing, what it was asked for once remembered."""

    def __missing__(self, code: int) -> int | None:
        self[code] = None if unicodedata.category(chr(code)).startswith("P") else code
        return self[code]


_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ALL_PUNCTUATION = _AllPunctuation()
_IN_NUMBERS = re.compile(r"(?<=\d)([.:/]|,(?!\d{3}(?!\d)))(?=\d)")
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalize_answer(text: str) -> str:
    """Lower case, without ASCII punctuation and articles, single spaces.

    Text in scripts without spaces between words is folded too, see `ragtune.questions.unspaced.fold`.

    Source: the evaluation script of SQuAD v1.1, character by character.
    """
    return " ".join(_ARTICLES.sub(" ", fold(text.lower().translate(_PUNCTUATION))).split())


def distinct_answers(answers: Iterable[str]) -> tuple[str, ...]:
    """The first of all spellings that normalise to the same, without those of which nothing is left."""
    spellings: dict[str, str] = {}
    for answer in answers:
        if normalized := normalize_answer(answer):
            spellings.setdefault(normalized, " ".join(answer.split()))
    return tuple(spellings.values())


def normalize_question(text: str) -> str:
    """Normalise a question: case, punctuation and white space do not count, words and numbers do.

    "" for a question without a letter or digit.

    >>> normalize_question("Who paid 1,000 in WW2?"), normalize_question("1.5") == normalize_question("15")
    ('who paid 1000 in ww2', False)
    """
    parts = _IN_NUMBERS.split(unicodedata.normalize("NFKC", text).casefold())
    parts[::2] = [part.translate(_ALL_PUNCTUATION) for part in parts[::2]]  # the others are what was split at
    kept = "".join(parts)
    return " ".join(fold(kept).split()) if any(map(str.isalnum, kept)) else ""


def exact_match(prediction: str, answers: Iterable[str]) -> bool:
    """True if the prediction equals one of the answers after `normalize_answer`.

    Source: SQuAD v1.1's evaluate-v1.1.py, `exact_match_score` under `metric_max_over_ground_truths`.
    """
    return normalize_answer(prediction) in map(normalize_answer, answers)


def normalize_for_matching(text: str) -> str:
    """`normalize_answer` with letters and their accents composed: what `stands_in` compares."""
    return normalize_answer(unicodedata.normalize("NFC", text))


def normalized_answers(answers: Iterable[str]) -> list[str]:
    """The answers as `stands_in` wants them; those of which nothing is left ("the", "!") fall away."""
    return [normalized for answer in answers if (normalized := normalize_for_matching(answer))]


def contains_answer(passage: str, answers: Sequence[str]) -> bool:
    """Tell whether one of the answers stands in the passage, on word boundaries, after SQuAD normalisation.

    "no" does not stand in "know", nor "100" in "1,000"; "3,000" stands in "some 3,000 men". Scripts without spaces
    between words have no such boundaries: "北京" stands in "他在北京工作". For many passages and questions, normalise
    each once and ask `holds_any`.
    """
    return holds_any(normalize_for_matching(passage), normalized_answers(answers))


def holds_any(passage: str, answers: Iterable[str]) -> bool:
    """`contains_answer` for what `normalize_for_matching` and `normalized_answers` gave."""
    return any(stands_in(passage, answer) for answer in answers)


def stands_in(passage: str, answer: str) -> bool:
    """Tell whether an answer stands in a passage without cutting a word or number; both normalised before."""
    start = passage.find(answer) if answer else -1
    while start >= 0:
        if begins_word(passage, start) and ends_word(passage, start + len(answer)):
            return True
        start = passage.find(answer, start + 1)
    return False
