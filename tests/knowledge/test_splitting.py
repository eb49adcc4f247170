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
