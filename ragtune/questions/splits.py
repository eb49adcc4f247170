"""Splits, draws and overlap of questions, all by hashes."""

import hashlib
from array import array
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ragtune.errors import QuestionError

Keys = npt.NDArray[np.uint64]

SPLIT_BY = ("question", "title", "gold")
"""What keeps questions on one side: nothing but the question itself, its document, or the passages that answer it."""


def check_split_by(split_by: str) -> None:
    """Refuse what is none of `SPLIT_BY`.

    Raises:
        QuestionError: it is not.
    """
    if split_by not in SPLIT_BY:
        raise QuestionError(f"split_by={split_by}: must be one of {', '.join(SPLIT_BY)}")


def key_of(text: str) -> int:
    """64 bits of BLAKE2b."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


class Links:
    """The keys of questions, such as those of their gold passages; 12 bytes each."""

    def __init__(self) -> None:
        self._questions, self._keys = array("I"), array("Q")

    def add(self, question: int, texts: Sequence[str]) -> None:
        """Give a question, by number, the keys of some texts."""
        for text in texts:
            self._questions.append(question)
            self._keys.append(key_of(text))

    def keys(self, chosen: npt.NDArray[np.bool_]) -> Keys:
        """The keys of the chosen questions, (n,) bool."""
        return self._arrays()[1][chosen[self._arrays()[0]]]

    def sharing(self, keys: Keys, questions: int) -> npt.NDArray[np.bool_]:
        """Mark those of so many questions that have one of these keys, (questions,) bool."""
        numbers, own = self._arrays()
        shared = np.zeros(questions, bool)
        shared[numbers[np.isin(own, keys)]] = True
        return shared

    def groups(self) -> dict[int, int]:
        """Question → the least key of its group; in a group are all that are connected by keys in common."""
        parents: dict[int, int] = {}

        def root(key: int) -> int:
            while (parent := parents.setdefault(key, key)) != key:
                parents[key] = parents[parent]
                key = parents[key]
            return key

        first: dict[int, int] = {}
        for question, key in zip(self._questions, self._keys, strict=True):
            one, other = sorted((root(first.setdefault(question, key)), root(key)))
            parents[other] = one
        return {question: root(key) for question, key in first.items()}

    def _arrays(self) -> tuple[npt.NDArray[np.uint32], Keys]:
        return np.array(self._questions, np.uint32), np.array(self._keys, np.uint64)


def places(digests: Keys, groups: Mapping[int, int]) -> npt.NDArray[np.float64]:
    """Place each question in [0, 1) by its group's hash or its own.

    More questions do not move one that goes by itself, or by one key alone, such as its title. A group of several keys
    stands where it did until a question joins that brings a lesser key, or connects it with another group.

    Args:
        digests: (n, 2), two independent halves of each question's hash.
        groups: question → key, for those that are in a group.
    """
    place = digests[:, 0].astype(np.float64) / 2**64
    for question, key in groups.items():
        place[question] = key_of(f"{key:x}") / 2**64  # hashed again: the least of several keys is small
    return place


def split_names(place: npt.NDArray[np.float64], shares: Mapping[str, float]) -> npt.NDArray[np.str_]:
    """The split of each question, (n,): those of `shares` from 0 upwards, each as wide as its share, then "train"."""
    names = np.full(len(place), "train", "<U10")
    start = 0.0
    for split, share in shares.items():
        names[(place >= start) & (place < start + share)] = split
        start += share
    return names


def drawn(digests: Keys, candidates: npt.NDArray[np.bool_], most: int) -> npt.NDArray[np.bool_]:
    """Of the candidates at most so many, drawn by the second half of their hash; 0 draws all."""
    if not most or candidates.sum() <= most:
        return candidates
    numbers = np.flatnonzero(candidates)
    chosen = np.zeros(len(candidates), bool)
    chosen[numbers[np.argsort(digests[numbers, 1], kind="stable")[:most]]] = True
    return chosen
