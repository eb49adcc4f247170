"""Scripts that put no spaces between words: Chinese, Japanese, Thai, Lao, Khmer, Burmese, Tibetan and their kin.

Korean is not among them: Hangul has spaces, and words there end where a space or punctuation says so.
"""

import re
import unicodedata

# Letters and marks alone: digits and punctuation of these scripts part words as they do everywhere.
_IDEOGRAPHIC = (
    "\u2e80-\u2fd5\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # Han
    "\U00020000-\U0003ffff"  # more of it
    "\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f\U0001aff0-\U0001b16f"  # kana
    "\u3105-\u312f\u31a0-\u31bf"  # bopomofo
)
_SYLLABIC = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece\u0edc-\u0edf"  # Thai, Lao
    "\u0f40-\u0fbc"  # Tibetan
    "\u1000-\u103f\u1050-\u108f\u109a-\u109d\ua9e0-\ua9ef\ua9fa-\ua9fe\uaa60-\uaa7f"  # Burmese
    "\u1780-\u17d3\u17d7\u17dc\u17dd"  # Khmer
    "\u1950-\u1974\u1980-\u19c9\u1a20-\u1a7f\uaa80-\uaadd"  # Tai
)
UNSPACED = _IDEOGRAPHIC + _SYLLABIC
"""What goes between the brackets of a regular expression's character class."""

_CHARACTER = re.compile(f"[{UNSPACED}]")
_SYLLABIC_CHARACTER = re.compile(f"[{_SYLLABIC}]")
_LEADING_VOWELS = "\u0e40-\u0e44\u0ec0-\u0ec4"  # Thai and Lao; written before the consonant that they follow in speech
_FOLLOWING_VOWELS = "\u0e30\u0e32\u0e33\u0e45\u0eb0\u0eb2\u0eb3"  # letters to Unicode, but parts of a syllable
_SUBJOINING = "\u17d2\u1039\u1a60"  # the next letter is written below this one
_BINDING = "−\u200c\u200d"  # a minus is part of a number, unlike a dash; joiners stand within Persian and Indic words
_MARKS = _FOLLOWING_VOWELS + "".join(
    character for character in map(chr, range(0x0E00, 0xAAE0)) if unicodedata.category(character)[0] == "M"
)
_CLUSTER = f"[{_LEADING_VOWELS}]?[{UNSPACED}](?:[{_SUBJOINING}][{UNSPACED}]|[{_MARKS}])*"
_WORD = re.compile(rf"{_CLUSTER}|[^\s{UNSPACED}]+")

_OPENING = r"(\[{<“‘«‹〈《「『【〔〖〘〚（［｛｢"
_UNIT = re.compile(
    rf"[{_OPENING}]*(?:{_CLUSTER}|[^{UNSPACED}{_OPENING}]+)[^\w{_OPENING}]*|[{_OPENING}]+"
)  # a cluster keeps the punctuation around it, so that no line begins with a full stop

_WIDE_PUNCTUATION = "\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff5e"
_SEPARATORS = re.compile(
    f"[\u3000-\u3003\u3008-\u3020\u3030\u303d\u30a0\u30fb\ufe30-\ufe6b{_WIDE_PUNCTUATION}\uff5f-\uff65]"
)
_IN_NUMBERS = re.compile(rf"(?<=\d)[{_WIDE_PUNCTUATION}](?=\d)")
_FOLDED = re.compile(f"[{UNSPACED}\u1100-\u11ff\u3000-\u303f\ufe30-\ufe6b\uff01-\uffee]")
_SPACES = re.compile(rf"(?<=[{UNSPACED}])\s+|(?<!\s)\s+(?=[{UNSPACED}])")  # each run of spaces is tried once
_PUNCTUATION = re.escape(
    "".join(character for character in map(chr, range(0x80, 0xFE30)) if unicodedata.category(character)[0] == "P")
)
_ENCLOSED = re.compile(rf"(?<=[{UNSPACED}])[{_PUNCTUATION}\s]+(?=[{UNSPACED}]|$)|^[{_PUNCTUATION}\s]+(?=[{UNSPACED}])")


def _one_width() -> dict[int, str | None]:
    """Full-width and half-width letters and digits to the usual ones; what nobody sees to nothing."""
    table: dict[int, str | None] = dict.fromkeys(
        (0x200B, 0x2060, 0xFEFF, *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))
    )
    for code in range(0xFF01, 0xFFEF):
        kind, _, usual = unicodedata.decomposition(chr(code)).partition(" ")
        if kind in ("<wide>", "<narrow>") and unicodedata.category(chr(int(usual, 16)))[0] in "LMN":
            table[code] = chr(int(usual, 16))
    return table


_ONE_WIDTH = _one_width()


def has_unspaced(text: str) -> bool:
    """Tell whether some of it is in a script without spaces between words."""
    return not text.isascii() and _CHARACTER.search(text) is not None


def is_syllabic(character: str) -> bool:
    """Tell whether a character is of Thai, Lao, Khmer, Burmese, Tibetan or a Tai script."""
    return _SYLLABIC_CHARACTER.match(character) is not None


def fold(text: str) -> str:
    """Text without the ways in which writers of these scripts differ, for comparing; other text stays as it is.

    Full and half width become one, accents are composed, and spaces, line breaks and punctuation among letters of these
    scripts are dropped: "２００８ 年" becomes "2008年", "巴拉克·奥巴马" "巴拉克奥巴马", and "《红楼梦》" "红楼梦".
    Full-width punctuation between other letters becomes a space, between digits nothing: "３，０００" is "3000".
    """
    if text.isascii() or not _FOLDED.search(text):
        return text
    text = unicodedata.normalize("NFC", text.translate(_ONE_WIDTH))
    text = _SEPARATORS.sub(" ", _IN_NUMBERS.sub("", text))
    return _ENCLOSED.sub("", _SPACES.sub("", text))


def split_words(text: str) -> list[str]:
    """Words between spaces, and each character of an unspaced script with its marks.

    >>> split_words("在 IBM 工作")
    ['在', 'IBM', '工', '作']
    """
    return _WORD.findall(text) if has_unspaced(text) else text.split()


def word_spans(text: str) -> list[tuple[int, int]]:
    """Return the start and end of each of `split_words` in the text."""
    return [match.span() for match in _WORD.finditer(text)]


def split_units(word: str) -> list[str]:
    """The parts of a word, without white space in it, between which a line may break; joined they are the word."""
    return _UNIT.findall(word) if has_unspaced(word) else [word]


def quarter_words(text: str) -> int:
    """The length of a text in quarters of a word.

    A word between spaces counts 4. In unspaced scripts letters are measured, without their marks: two make a word in
    Chinese and Japanese, four in the others, which write about that many letters a word.
    """
    if not has_unspaced(text):
        return 4 * len(text.split())
    return sum(_quarters(word) for word in _WORD.findall(text))


def length_in_words(text: str) -> int:
    """`quarter_words` in whole words, rounded up."""
    return -(-quarter_words(text) // 4)


def ends_word(text: str, place: int) -> bool:
    """Tell whether a word may end behind `text[:place]`, judged by the character that follows.

    None ends inside a syllable, a number or a word of a script with spaces; between characters of unspaced scripts it
    may anywhere, and so where such a script meets another one.
    """
    following = text[place : place + 1]
    if following and (following in _MARKS or unicodedata.category(following)[0] == "M"):
        return False
    return not _one_word(text[place - 1 : place], following)


def begins_word(text: str, place: int) -> bool:
    """Tell whether a word may begin at `text[place:]`, judged by the character before it."""
    before = place - 1
    if before < 0:
        return True
    if re.match(f"[{_LEADING_VOWELS}{_SUBJOINING}]", text[before]):
        return False
    while before > 0 and unicodedata.category(text[before])[0] == "M":
        before -= 1  # a mark belongs to what its letter does
    return not _one_word(text[place : place + 1], text[before])


def _one_word(edge: str, neighbour: str) -> bool:
    if edge.isnumeric() and neighbour.isnumeric():  # also 十 in 二十
        return True
    if has_unspaced(edge) or has_unspaced(neighbour):
        return False
    return neighbour.isalnum() or (neighbour != "" and neighbour in _BINDING)


def _quarters(word: str) -> int:
    if not has_unspaced(word):
        return 4 * any(map(str.isalnum, word))
    return sum(unicodedata.category(letter)[0] != "M" for letter in word) if is_syllabic(word) else 2
