"""Relevance of retrieved passages to a question: those of a gold source, and those that hold an answer."""

from collections.abc import Iterable, Iterator

from ragtune.questions.normalization import holds_any, normalized_answers


def are_gold(sources: Iterable[Iterable[str]], gold_ids: Iterable[str]) -> Iterator[bool]:
    """Tell of each passage, by its `source_ids`, whether it is (a piece of) a gold passage."""
    gold = set(gold_ids)
    return (not gold.isdisjoint(own) for own in sources)


def hold_answer(texts: Iterable[str], answers: Iterable[str]) -> Iterator[bool]:
    """Tell of each passage whether one of the answers stands in its text, which `normalize_for_matching` gave."""
    wanted = normalized_answers(answers)
    return (holds_any(text, wanted) for text in texts)


def first_rank(helps: Iterable[bool]) -> int:
    """The rank, from 1, of the first passage that helps; 0 where none does. None beyond it is looked at.

    >>> first_rank(are_gold([["w1"], ["w7", "w8"]], ["w8"]))
    2
    """
    return next((rank for rank, hit in enumerate(helps, 1) if hit), 0)
