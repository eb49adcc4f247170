"""Long text cut into passages of whole sentences."""

import re
from collections.abc import Sequence

from ragtune.questions.unspaced import has_unspaced, is_syllabic, quarter_words, split_units

_MAX_CHARACTERS_PER_WORD = 20  # on average; a word that is longer is cut
_MAX_CHARACTERS = 16_000  # of a passage: 64,000 bytes at most, and a Milvus text field holds 65,535
_SENTENCE_END = re.compile(r"""[.!?…。！？｡။។៕།༎]["'”’)\]」』）】》〉]*$""")
_ABBREVIATION = re.compile(r"^\W*(?:\w|(?:\w\.)+\w|Mr|Mrs|Ms|Dr|Prof|St|Mt|No|vs|ca?)\.$")


def split_text(text: str, max_words: int = 100) -> list[str]:
    """Cut text into pieces of at most `max_words` words, at the end of a sentence where one is within reach.

    Text in scripts without spaces between words is measured in characters, as `quarter_words` says: 200 Chinese or
    400 Thai letters are 100 words. A sentence that is longer is cut between words, or between such characters (never
    before their marks or closing punctuation), a word of more than 20 × `max_words` characters inside.

    Args:
        text: with single spaces between words.
        max_words: at least 1.

    Returns:
        The pieces in their order; they give the text back, but for white space at the cuts. [] for "".
    """
    max_characters = min(_MAX_CHARACTERS_PER_WORD * max_words, _MAX_CHARACTERS)
    measured = has_unspaced(text)
    fits = quarter_words(text) <= 4 * max_words if measured else text.count(" ") < max_words
    if text and fits and len(text) <= max_characters:
        return [text]
    units = [unit for word in text.split() for unit in _units(word, max_characters)]
    lengths = list(map(quarter_words, units)) if measured else [4] * len(units)
    pieces = []
    start = 0
    while start < len(units):
        end = _reach(units, lengths, start, max_words, max_characters)
        if end < len(units):
            end = next((cut for cut in range(end, start, -1) if _ends_sentence(units[cut - 1], units[cut])), end)
        pieces.append("".join(units[start:end]).strip())
        start = end
    return pieces


def _units(word: str, max_characters: int) -> list[str]:
    """Parts that a piece may be cut between, the word's first with a space before it."""
    units = [
        unit[start : start + max_characters]
        for unit in split_units(word)
        for start in range(0, len(unit), max_characters)
    ]
    return [f" {units[0]}", *units[1:]]


def _reach(units: Sequence[str], lengths: Sequence[int], start: int, max_words: int, max_characters: int) -> int:
    """The end of the longest piece that may begin at `start`."""
    end, characters, length = start + 1, len(units[start].lstrip()), lengths[start]
    while (
        end < len(units)
        and (length := length + lengths[end]) <= 4 * max_words
        and (characters := characters + len(units[end])) <= max_characters
    ):
        end += 1
    return end


def _ends_sentence(unit: str, following: str) -> bool:
    unit, after = unit.lstrip(), following.lstrip()
    if after != following and is_syllabic(unit[-1]) and is_syllabic(after[0]):  # Thai's spaces stand between phrases
        return True
    return bool(_SENTENCE_END.search(unit)) and not _ABBREVIATION.match(unit) and not after[0].islower()
