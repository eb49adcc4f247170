import pytest

from ragtune.evaluation.examples import drawn, example_html, highlight, lost, won


def prediction(**changes):
    entry = {"id": "p1", "probability": 0.75, "gold": True, "answer": True}
    row = {
        "question": "where is the nile",
        "answers": ["Egypt"],
        "prediction_before": "Peru",
        "prediction_after": "Egypt",
        "prediction_closed_book": "Asia",
        "em_before": 0.0,
        "em_after": 1.0,
        "em_closed_book": 0.0,
        "retrieved_before": [entry],
        "retrieved_after": [entry],
    }
    return row | changes


@pytest.mark.parametrize(
    ("text", "answers", "expected"),
    [
        ("Along the Nile, Egypt", ["nile"], "Along the <mark>Nile,</mark> Egypt"),
        ("in New York City now", ["New York", "new york city"], "in <mark>New York City</mark> now"),
        ("know nothing", ["no"], "know nothing"),
        ("a <b> & c", ["B"], "a <mark>&lt;b&gt;</mark> &amp; c"),
        ("the lord of the rings", ["Lord of Rings"], "the <mark>lord of the rings</mark>"),
        ("Nile and Nile", ["the Nile"], "<mark>Nile</mark> and <mark>Nile</mark>"),
        ("the the", ["the"], "the the"),
        ("他在北京工作。", ["北京"], "他在<mark>北京</mark>工作。"),
        ("巴拉克·奥巴马 2008 年", ["巴拉克奥巴马", "2008年"], "<mark>巴拉克·奥巴马</mark> <mark>2008 年</mark>"),
        ("二十三人", ["二十"], "二十三人"),
    ],
)
def test_answers_are_marked_as_the_normalisation_finds_them(text, answers, expected):
    assert highlight(text, answers) == expected


def test_won_and_lost_go_by_exact_match():
    assert won(prediction()) and not lost(prediction())
    assert lost(prediction(em_before=1.0, em_after=0.0))


def test_the_draw_is_the_same_whatever_the_order():
    rows = [prediction(question=f"question {number}") for number in range(50)]
    assert len(drawn(rows)) == 10
    assert drawn(rows) == drawn(rows[::-1])


def test_an_example_shows_answers_and_the_passage_with_its_probability():
    html = example_html(prediction(), {"p1": {"title": "Nile", "text": "It ends in Egypt"}})
    for part in ("where is the nile", "Peru", "Asia", "0.750", "Nile", "<mark>Egypt</mark>", "gold"):
        assert part in html


def test_an_empty_answer_is_called_nothing_and_an_unknown_passage_by_its_id():
    html = example_html(prediction(prediction_before=""), {})
    assert "<i>nothing</i>" in html and "p1" in html
