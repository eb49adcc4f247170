import pytest

from ragtune.questions.cleaning import clean, text_id


@pytest.mark.parametrize(
    ("text", "cleaned"), [(" a\u00a0b\t c\n", "a b c"), ("\0", ""), (" \u3000", ""), ("x\ud800", "x?"), ("w1", "w1")]
)
def test_what_cannot_be_stored_or_seen_is_cleaned_away(text, cleaned):
    assert clean(text) == cleaned


def test_a_text_has_the_same_id_however_it_is_spaced_and_composed():
    assert text_id("Cafe\u0301  au\nlait ") == text_id("Café au lait")
    assert text_id("Café au lait") != text_id("Café au lait.")
