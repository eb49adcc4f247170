"""Groups of questions about one thing, which are answered right or wrong together: no evidence each for itself."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ragtune.questions.normalization import normalize_question
from ragtune.questions.question import Question
from ragtune.questions.splits import Links

Groups = npt.NDArray[np.int64]


def title_of(question: Question) -> list[str]:
    """The title that the question shares with others on its document, in one spelling; [] where it is unknown."""
    title = question.title.replace("_", " ")  # as addresses spell it
    return [normalize_question(title) or title] if title else []


def golds_of(question: Question) -> list[str]:
    """The keys that a question's passages are known by: gold ids, contexts, long answers."""
    return [*question.gold_ids, *question.paragraphs]


def groups_of(questions: Sequence[Question]) -> Groups:
    """Number the groups from 0 as they come, (n,): those connected by titles or gold passages in common are one.

    Example: gold passages a, b, none, and a and c give 0, 1, 2, 0.
    """
    links = Links()
    for number, question in enumerate(questions):
        links.add(number, [f"title {title}" for title in title_of(question)])
        links.add(number, [f"gold {gold}" for gold in golds_of(question)])
    keys = links.groups()
    numbers: dict[tuple[str, int], int] = {}
    own = (("group", keys[number]) if number in keys else ("alone", number) for number in range(len(questions)))
    return np.array([numbers.setdefault(key, len(numbers)) for key in own], np.int64)
