"""Long text cut into passages of whole sentences."""

import re
from collections.abc import Sequence

_MAX_CHARACTERS_PER_WORD = 20  # on average; text without spaces is cut by it
_MAX_CHARACTERS = 16_000  # of a passage: 64,000 bytes at most, and a Milvus text field holds 65,535
_SENTENCE_END = re.compile(r"""[.!?…。！？]["'”’)\]]*$""")
_ABBREVIATION = re.compile(r"^\W*(?:\w|(?:\w\.)+\w|Mr|Mrs|Ms|Dr|Prof|St|Mt|No|vs|ca?)\.$")


def split_text(text: str, max_words: int = 100) -> list[str]:
    """Cut text into pieces of at most `max_words` words, at the end of a sentence where one is within reach.

    A sentence that is longer than that is cut between words, a word of more than 20 × `max_words` characters inside.

    Args:
        text: with single spaces between words.
        max_words: at least 1.

    Returns:
        The pieces in their order; joined by spaces they give the text back, but for cuts inside words. [] for "".
    """
    max_characters = min(_MAX_CHARACTERS_PER_WORD * max_words, _MAX_CHARACTERS)
    if text and len(text) <= max_characters and text.count(" ") < max_words:
        return [text]
    words = [
        word[start : start + max_characters] for word in text.split() for start in range(0, len(word), max_characters)
    ]
    pieces = []
    start = 0
    while start < len(words):
        end = _reach(words, start, max_words, max_characters)
        if end < len(words):
            end = next((cut for cut in range(end, start, -1) if _ends_sentence(words[cut - 1], words[cut])), end)
        pieces.append(" ".join(words[start:end]))
        start = end
    return pieces


def _reach(words: Sequence[str], start: int, max_words: int, max_characters: int) -> int:
    """The end of the longest piece that may begin at `start`."""
    end, characters = start + 1, len(words[start])
    while end < min(len(words), start + max_words) and characters + 1 + len(words[end]) <= max_characters:
        characters += 1 + len(words[end])
        end += 1
    return end


def _ends_sentence(word: str, following: str) -> bool:
    return bool(_SENTENCE_END.search(word)) and not _ABBREVIATION.match(word) and not following[0].islower()
