"""The questions of one source, each once: texts on disk, and in memory only what they are compared by."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import IO

import numpy as np

from ragtune.questions.groups import golds_of, title_of
from ragtune.questions.normalization import distinct_answers
from ragtune.questions.question import Question
from ragtune.questions.splits import Keys, Links

LINKS = ("title", "gold")
_TUPLES = ("answers", "gold_ids", "paragraphs", "overlap")


class Gathered:
    """Questions in the order of their first coming; a later one that is the same adds what it knows.

    Attributes:
        links: "title" and "gold" → which questions have which titles and passages in common.
    """

    def __init__(self, spill: IO[str]):
        """Start with none; `spill` is an empty file to write to and read again."""
        self._spill = spill
        self._numbers: dict[bytes, int] = {}
        self._further: dict[int, Question] = {}
        self.links = {name: Links() for name in LINKS}

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._numbers

    def __iter__(self) -> Iterator[Question]:
        """The questions, with all that their duplicates knew."""
        self._spill.seek(0)
        for number, line in enumerate(self._spill):
            row = json.loads(line)
            question = Question(**{**row, **{name: tuple(row[name]) for name in _TUPLES}})
            further = self._further.get(number)
            yield merged(question, further) if further else question

    def add(self, digest: bytes, question: Question) -> None:
        """Take a question that is new."""
        self._link(len(self._numbers), question)
        self._numbers[digest] = len(self._numbers)
        self._spill.write(question.as_line())

    def merge(self, digest: bytes, question: Question) -> None:
        """Take what a question knows that came before, in other spelling perhaps."""
        number = self._numbers[digest]
        self._link(number, question)
        known = self._further.get(number)
        self._further[number] = merged(known, question) if known else question

    def digests(self) -> Keys:
        """The two halves of each question's hash, (n, 2)."""
        return np.frombuffer(b"".join(self._numbers), ">u8").reshape(-1, 2).astype(np.uint64)

    def _link(self, number: int, question: Question) -> None:
        self.links["title"].add(number, title_of(question))
        self.links["gold"].add(number, golds_of(question))


def merged(first: Question, other: Question) -> Question:
    """The first question with the other's answers and gold passages behind its own, and its title where it has none."""
    return replace(
        first,
        answers=distinct_answers([*first.answers, *other.answers]),
        gold_ids=tuple(dict.fromkeys([*first.gold_ids, *other.gold_ids])),
        paragraphs=tuple(dict.fromkeys([*first.paragraphs, *other.paragraphs])),
        title=first.title or other.title,
    )
