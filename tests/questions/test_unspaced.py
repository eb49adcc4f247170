import pytest

from ragtune.questions.normalization import normalize_for_matching
from ragtune.questions.unspaced import fold, length_in_words, split_units, split_words, word_spans


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("in New York", 3),
        ("", 0),
        ("rock – roll", 3),  # as white space separates them
        ("北京", 1),
        ("中华人民共和国", 4),
        ("2008年8月8日", 5),
        ("在 IBM 工作", 3),
        ("バラク・オバマ", 3),
        ("กรุงเทพมหานคร", 3),  # 13 characters, two of them marks
        ("ភ្នំពេញ", 1),
        ("서울은 한국의 수도", 3),
        ("，。", 1),
    ],
)
def test_length_is_in_words_and_in_characters_where_no_space_parts_words(text, words):
    assert length_in_words(text) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("in New York", ["in", "New", "York"]),
        ("在 IBM 工作", ["在", "IBM", "工", "作"]),
        ("กี่ร้อย", ["กี่", "ร้", "อ", "ย"]),
        ("ភ្នំពេញ", ["ភ្នំ", "ពេ", "ញ"]),
        ("か\u3099く", ["か\u3099", "く"]),
        ("서울은 한국", ["서울은", "한국"]),
    ],
)
def test_a_character_is_a_word_with_its_marks(text, words):
    assert split_words(text) == words


def test_spans_are_where_the_words_are():
    text = "at 北京 IBM"
    assert [text[start:end] for start, end in word_spans(text)] == split_words(text)


@pytest.mark.parametrize(
    ("word", "units"),
    [
        ("half-way", ["half-way"]),
        ("“他在（IBM）工作。”是", ["“他", "在", "（IBM）", "工", "作。”", "是"]),
        ("เกาะกี่", ["เกาะ", "กี่"]),
    ],
)
def test_no_line_begins_with_closing_punctuation_or_a_mark(word, units):
    assert split_units(word) == units


@pytest.mark.parametrize("text", ["“Hello”, he said — twice…", "naïve café", "1940–1942", "서울, 한국", "नमस्ते दुनिया।"])
def test_text_in_scripts_with_spaces_stays_as_it_is(text):
    assert fold(text) == text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("２００８ 年", "2008年"),
        ("ＩＢＭ", "IBM"),
        ("ﾄﾖﾀ", "トヨタ"),
        ("ﾊﾞｽ", "バス"),
        ("か\u3099く", "がく"),
        ("\u1112\u1161\u11ab", "한"),
        ("北\n京", "北京"),
        ("巴拉克・奥巴马", "巴拉克·奥巴马"),
        ("《红楼梦》", "红楼梦"),
        ("“北京”", "「北京」"),
        ("維生素 A", "維生素A"),
        ("３，０００人", "3,000人"),
        ("１２：３０", "12:30"),
        ("奥巴马（Obama）", "奥巴马(Obama)"),
        ("ភ្នំ\u200bពេញ", "ភ្នំពេញ"),
        ("葛\U000e0100飾", "葛飾"),
    ],
)
def test_spellings_of_the_same_text_are_folded_into_one(one, other):
    assert normalize_for_matching(one) == normalize_for_matching(other) != ""
