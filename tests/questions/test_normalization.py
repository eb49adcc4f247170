import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ragtune.questions.normalization import (
    contains_answer,
    normalize_answer,
    normalize_for_matching,
    normalize_question,
    normalized_answers,
    stands_in,
)

WORDS = st.lists(
    st.sampled_from(["no", "know", "a", "1", "10", "1,000", "né", "−5", "5", "the", "x-y", "."]), max_size=8
)


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("The  Beatles!", "beatles"),
        ("3,000", "3000"),
        ("An Officer and a Gentleman", "officer and gentleman"),
        ("theatre", "theatre"),
        ("U.S.A.", "usa"),
        ("1940–1942", "1940–1942"),  # SQuAD's script knows ASCII punctuation alone
        ("the", ""),
    ],
)
def test_answers_are_normalised_as_in_squad(text, normalized):
    assert normalize_answer(text) == normalized


@pytest.mark.parametrize(
    ("passage", "answer", "stands"),
    [
        ("I know that", "no", False),
        ("There is no answer.", "no", True),
        ("He sold 1,000 copies", "100", False),
        ("He sold 3,000 copies", "3,000", True),
        ("Born on May 18, 2018 in Rome", "May 18, 2018", True),
        ("Born on May 18, 20185", "May 18, 2018", False),
        ("It fell to −5 degrees", "5", False),
        ("It fell to −5 degrees", "−5", True),
        ("from 1940–1942", "1942", True),
        ("the Beatles'", "The Beatles", True),
        ("Café", "Café", True),  # one letter, and a letter with a combining accent
        ("Cafés", "Café", False),
        ("anything", "the", False),
        ("anything", "", False),
        ("", "anything", False),
    ],
)
def test_an_answer_stands_in_a_passage_on_word_boundaries(passage, answer, stands):
    assert contains_answer(passage, [answer]) is stands


def test_one_of_several_answers_is_enough():
    assert contains_answer("in Paris", ["London", "Paris"])
    assert not contains_answer("in Paris", [])


@given(WORDS.map(" ".join), WORDS.map("".join))
@example("know no", "no")
def test_matching_equals_brute_force(passage, answer):
    passage, answer = normalize_for_matching(passage), normalize_for_matching(answer)
    pattern = rf"(?<![\w−]){re.escape(answer)}(?![\w−])"
    assert stands_in(passage, answer) == bool(answer and re.search(pattern, passage))


@given(st.text(max_size=40))
def test_a_passage_holds_itself_unless_nothing_is_left_of_it(text):
    assert contains_answer(text, [text]) == bool(normalized_answers([text]))


@given(st.text(max_size=40))
def test_normalising_a_question_twice_changes_nothing(text):
    assert normalize_question(normalize_question(text)) == normalize_question(text)


@pytest.mark.parametrize("same", ["Who  wrote IT ?", "who wrote it", "“Who wrote it”", "who wrote, it…"])
def test_spellings_of_one_question_are_the_same(same):
    assert normalize_question(same) == "who wrote it"


@pytest.mark.parametrize("nothing", ["", "?!", " … ", "+++", "👍"])
def test_nothing_is_left_of_a_question_without_letters(nothing):
    assert normalize_question(nothing) == ""
