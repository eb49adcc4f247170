"""The layouts that are not Natural Questions' own, and how a row's layout is told."""

import pytest

from ragtune.questions.cleaning import text_id
from ragtune.questions.layouts import LAYOUTS, MalformedError, layout_of


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"question_text": "q", "document_tokens": [], "annotations": []}, "nq-original"),
        ({"question_text": "q", "document_text": "", "annotations": []}, "nq-simplified"),
        ({"question": {"text": "q"}, "document": {}, "annotations": {}}, "nq-huggingface"),
        ({"title": "t", "paragraphs": []}, "squad"),
        ({"question": "q", "answers": ["a"], "answer": "b"}, "plain"),
        ({"question": "q", "answer": ["a"]}, "nq-open"),
        ({"question": "q"}, ""),
    ],
)
def test_a_layout_is_told_by_its_fields(row, name):
    assert layout_of(row) == name


def plain(**row):
    return LAYOUTS["plain"].read({"question": "q", "answers": ["a"]} | row)


def test_answers_may_be_a_text_a_list_or_hugging_faces_object():
    assert plain(answers="a").answers == ["a"]
    assert plain(answers=["a", "b"]).answers == ["a", "b"]
    assert plain(answers={"text": ["a"], "answer_start": [3]}).answers == ["a"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": None}, 'no "question"'),
        ({"question": 7}, '"question" must be text, this is of type int'),
        ({"answers": None}, 'no "answers"'),
        ({"answers": [7]}, '"answers" must be a text or a list of texts'),
        ({"gold_ids": "w1"}, '"gold_ids" must be a list of ids'),
        ({"answers": ["\ud800"]}, r"holds half a character"),
    ],
)
def test_what_a_layout_does_not_hold_is_said(row, message):
    with pytest.raises(MalformedError, match=message):
        plain(**row)


def test_ids_are_cleaned_and_empty_ones_left_out():
    reading = plain(id=7, gold_ids=[" w1 ", 2, " "])
    assert (reading.id, reading.gold_ids) == ("7", ["w1", "2"])
    assert plain(example_id="x").id == "x"


def test_a_context_is_the_gold_passage_where_no_other_is_named():
    context = "A text that holds the answer."
    assert plain(context=context).gold_ids == [text_id(context)]
    assert plain(context=context, gold_ids=["w1"]).gold_ids == ["w1"]
    assert plain(context=context, long_answer="More.").paragraphs == [context, "More."]


def test_squads_articles_hold_their_questions():
    question = {"id": "q1", "question": "q", "answers": [{"text": "a", "answer_start": 0}]}
    article = {"title": "Mount_Etna", "paragraphs": [{"context": "the text", "qas": [question, question]}]}
    layout = LAYOUTS["squad"]
    readings = [layout.read(row) for row in layout.rows(article)]
    assert [reading.title for reading in readings] == ["Mount Etna"] * 2
    assert readings[0].answers == ["a"] and readings[0].gold_ids == [text_id("the text")]
    with pytest.raises(MalformedError, match='a paragraph must be an object with "qas"'):
        list(layout.rows({"paragraphs": ["text"]}))


def test_a_title_may_come_from_the_pages_address():
    read = LAYOUTS["nq-simplified"].read
    row = {"question_text": "q", "document_text": "", "annotations": []}
    assert (
        read(row | {"document_url": "https://en.example.org/w/index.php?title=Mount_Etna&amp;x=1"}).title
        == "Mount Etna"
    )
    assert read(row | {"document_url": "https://en.example.org/wiki/Caf%C3%A9"}).title == "Café"
    assert read(row | {"document_url": "https://[", "document_title": ""}).title == ""
