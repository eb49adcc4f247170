import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.knowledge.splitting import split_text

SENTENCES = st.lists(
    st.builds(
        lambda words, end: " ".join(words) + end,
        st.lists(st.text("abcXY", min_size=1, max_size=9), min_size=1, max_size=12),
        st.sampled_from([".", "!", "?", ".”", ""]),
    ),
    max_size=20,
)


@given(SENTENCES.map(" ".join), st.integers(1, 30))
def test_pieces_are_short_enough_and_lose_nothing(text, max_words):
    pieces = split_text(text, max_words)
    assert all(0 < len(piece.split()) <= max_words for piece in pieces)
    assert all(len(piece) <= 20 * max_words for piece in pieces)
    assert "".join(" ".join(pieces).split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("One two three. Four five six.", ["One two three.", "Four five six."]),
        ("One. Two three. Four five six.", ["One. Two three.", "Four five six."]),
        ("One two. Three four five six seven.", ["One two.", "Three four five six", "seven."]),  # longer than a piece
        ("One J. Smith met Dr. Brown there.", ["One J. Smith met", "Dr. Brown there."]),  # no sentence ends there
        ('He said "Go now." Then he left', ['He said "Go now."', "Then he left"]),
        ("It cost 3.5 or so. 1990 was late", ["It cost 3.5 or", "so. 1990 was late"]),
        ("", []),
        ("short", ["short"]),
    ],
)
def test_cuts_are_at_the_end_of_sentences_where_one_is_within_reach(text, pieces):
    assert split_text(text, 4) == pieces


def test_a_word_of_100_000_characters_is_cut_inside():
    pieces = split_text("a " + "x" * 100_000 + " b", 100)
    assert max(map(len, pieces)) <= 2000
    assert "".join("".join(pieces).split()) == "a" + "x" * 100_000 + "b"


def test_no_piece_outgrows_a_database_field():
    pieces = split_text("ドラゴンボール" * 20_000, 10_000)
    assert max(len(piece.encode()) for piece in pieces) < 65_535


@pytest.mark.parametrize(
    ("text", "max_words", "longest"),
    [
        ("北京是中国的首都。" * 250, 100, 225),
        ("京" * 2000, 100, 200),
        ("กรุงเทพ" * 300, 100, 500),
        ("ភ្នំពេញ" * 300, 100, 700),
    ],
)
def test_text_without_spaces_between_words_is_measured_in_characters(text, max_words, longest):
    pieces = split_text(text, max_words)
    assert max(map(len, pieces)) <= longest
    assert min(map(len, pieces[:-1])) > longest / 2
    assert "".join(pieces) == text


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("他在北京。他叫王小明。他走了。", ["他在北京。", "他叫王小明。他走了。"]),
        ("他说：“我去北京。”他走了。", ["他说：“我去北京。”", "他走了。"]),
        ("他在 IBM 公司工作了很久", ["他在 IBM 公司工作", "了很久"]),
        ("他在北京工作了十年，后来走了", ["他在北京工作了十", "年，后来走了"]),  # no piece begins with a comma
        ("ชอบแมว รักหมา", ["ชอบแมว รักหมา"]),
        ("ชอบแมวมาก รักหมามาก", ["ชอบแมวมาก", "รักหมามาก"]),  # between phrases
    ],
)
def test_such_text_is_cut_at_the_end_of_sentences_and_before_no_mark(text, pieces):
    assert split_text(text, 4) == pieces
