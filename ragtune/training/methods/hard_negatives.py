"""Hard negatives: passages that score high for a question and are wrong, told from those that may be right.

Sources: positive-aware margin, Moreira et al. 2024, https://arxiv.org/abs/2407.15831; what holds an answer is dropped,
Qu et al. 2021 (RocketQA), https://arxiv.org/abs/2010.08191
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ragtune.knowledge.retrieved import PADDING_ROW
from ragtune.models.inputs import PassageRows
from ragtune.questions.normalization import holds_any, normalize_for_matching, normalized_answers, stands_in

GOLD, DUPLICATE, ANSWER, MARGIN, KEPT = "gold", "duplicate", "answer", "margin", "kept"
_NORMALIZED_PASSAGES = 200_000  # kept in memory
_SIGNATURE_WORDS = 32  # of 64 bits: a passage of 100 words sets a sixth of them

Rows = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]


class Relevance:
    """Tells which passages are right, or may be, for each of n questions.

    Attributes:
        gold: by question, the rows of its gold passages, or of all their pieces where they were cut.
        answers: by question, normalised.
    """

    def __init__(
        self, passages: PassageRows, gold_ids: Sequence[Iterable[str]], answers: Sequence[Iterable[str]]
    ) -> None:
        """Look up the gold passages.

        Args:
            passages: of the knowledge base, by row.
            gold_ids: n questions' ids of what answers them; none where that is not known.
            answers: n questions' answers; none where a question has no such thing.
        """
        wanted = {identifier for ids in gold_ids for identifier in ids}
        rows_of: dict[str, list[int]] = {}
        for row, passage in enumerate(passages if wanted else ()):
            for source in wanted.intersection(passage.source_ids):
                rows_of.setdefault(source, []).append(row)
        self.gold = [sorted({row for identifier in ids for row in rows_of.get(identifier, ())}) for ids in gold_ids]
        self.answers = [normalized_answers(own) for own in answers]
        self._passages = passages
        self._gold_texts: dict[int, frozenset[str]] = {}
        self._text = lru_cache(_NORMALIZED_PASSAGES)(lambda row: normalize_for_matching(passages[row].text))
        self._letters = lru_cache(_NORMALIZED_PASSAGES)(lambda row: _trigrams(self._text(row)))

    def why_right(self, question: int, row: int) -> str:
        """The reason for which a passage is no negative of a question: gold, duplicate or answer; "" for none."""
        if row in self.gold[question]:
            return GOLD
        text = self._text(row)
        if text in self._texts_of_gold(question):
            return DUPLICATE
        return ANSWER if holds_any(text, self.answers[question]) else ""

    def positives(self, question: int, found: Iterable[int] = ()) -> list[int]:
        """Rows to learn from: gold ones that hold an answer, else gold ones, else the first found with an answer."""
        answers = self.answers[question]
        if gold := self.gold[question]:
            return [row for row in gold if holds_any(self._text(row), answers)] or list(gold)
        return next(([row] for row in found if row != PADDING_ROW and holds_any(self._text(row), answers)), [])

    def excluded(self, questions: Sequence[int], own: Rows, pool: Rows) -> npt.NDArray[np.bool_]:
        """Mark the passages of a pool that are no negatives of some questions: right ones, repetitions and padding.

        Args:
            questions: B of them, by number.
            own: (B,) where in the pool each one's positive stands, which is never marked.
            pool: (P,) rows.

        Returns:
            (B, P).
        """
        distinct, first, places = np.unique(pool, return_index=True, return_inverse=True)
        repeated = np.ones(len(pool), bool)
        repeated[first] = False
        marked = self._right(questions, distinct)[:, places] | repeated
        marked[np.arange(len(questions)), own] = False
        return marked

    def _right(self, questions: Sequence[int], distinct: Rows) -> npt.NDArray[np.bool_]:
        """`why_right` of B questions and P distinct rows, (B, P); a batch of 256 has a quarter of a million pairs."""
        right = np.zeros((len(questions), len(distinct)), bool)
        right[:, distinct == PADDING_ROW] = True
        there = np.flatnonzero(distinct != PADDING_ROW)
        by_row = dict(zip(distinct[there].tolist(), there.tolist(), strict=True))
        by_text: dict[str, list[int]] = {}
        for row, place in by_row.items():
            by_text.setdefault(self._text(row), []).append(place)
        letters = np.array([self._letters(row) for row in by_row], np.uint64).reshape(-1, _SIGNATURE_WORDS).T.copy()
        for own_right, number in zip(right, questions, strict=True):
            own_right[[by_row[row] for row in self.gold[number] if row in by_row]] = True
            own_right[[place for text in self._texts_of_gold(number) for place in by_text.get(text, ())]] = True
            for answer in self.answers[number]:  # few passages have all its letters, and those alone are read
                own_letters = _trigrams(answer)[:, None]
                (words,) = np.nonzero(own_letters[:, 0])
                hold = (letters[words] & own_letters[words]) == own_letters[words]
                for place in there[hold.all(axis=0)].tolist():
                    own_right[place] |= stands_in(self._text(int(distinct[place])), answer)
        return right

    def _texts_of_gold(self, question: int) -> frozenset[str]:
        if question not in self._gold_texts:
            self._gold_texts[question] = frozenset(map(self._text, self.gold[question]))
        return self._gold_texts[question]


def _trigrams(text: str) -> npt.NDArray[np.uint64]:
    """The set of a text's three letters in a row, hashed to bits: a text's holds that of whatever stands in it."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    bits = np.zeros(64 * _SIGNATURE_WORDS, bool)
    bits[(codes[:-2] * 961 + codes[1:-1] * 31 + codes[2:]) % len(bits)] = True
    return np.packbits(bits).view(np.uint64)


@dataclass(frozen=True)
class Candidates:
    """The passages that a search found for a question, judged.

    Attributes:
        negatives: rows of those that are left, the hardest first.
        counts: found passages by what became of them: kept, or dropped as gold, duplicate, answer or for the margin.
    """

    negatives: list[int]
    counts: Counter[str] = field(default_factory=Counter)


def judge(
    relevance: Relevance, question: int, positives: Sequence[int], rows: Rows, scores: Scores, margin: float
) -> Candidates:
    """Drop what may be right: gold, a duplicate of gold, what holds an answer, what scores above the margin.

    A passage scores above the margin if s > s⁺ − margin·|s⁺|, with s⁺ the highest score of a positive. A positive that
    was not among the found scores no higher than the last of them, so that all of these are above the margin.

    Args:
        relevance: of the questions.
        question: its number.
        positives: rows that it learns from.
        rows, scores: (k,) of the found passages, best first; `PADDING_ROW` where there are no more.
        margin: share of the positive's score that a negative has to be below it.
    """
    known = scores[np.isin(rows, positives)]
    limit = known.max() - margin * abs(known.max()) if len(known) else -np.inf
    judged = Candidates([])
    for row, score in zip(rows.tolist(), scores.tolist(), strict=True):
        if row == PADDING_ROW:
            break
        reason = relevance.why_right(question, row) or (MARGIN if score > limit else KEPT)
        judged.counts[reason] += 1
        if reason == KEPT:
            judged.negatives.append(row)
    return judged
