import json

import pytest

from ragtune.errors import QuestionError
from ragtune.questions.question import Question, Rejected, read_kept_questions


def test_a_kept_question_is_read_back_as_it_was(tmp_path):
    kept = Question("q1", "where is it ?", ("Zürich", "b"), ("w1",), "a title", "f:3", ("p",), ("gold",))
    (tmp_path / "kept.jsonl").write_text(kept.as_line() + kept.as_line(), encoding="utf-8")
    assert list(read_kept_questions(tmp_path / "kept.jsonl")) == [kept, kept]


def test_what_is_unknown_may_be_left_out_and_gold_ids_are_distinct(tmp_path):
    row = {"id": "q1", "question": "q", "answers": ["a"], "gold_ids": ["w1", "w2", "w1"], "title": None}
    (tmp_path / "kept.jsonl").write_text(json.dumps(row) + "\n")
    (read,) = read_kept_questions(tmp_path / "kept.jsonl")
    assert read.gold_ids == ("w1", "w2") and read.title == "" and read.paragraphs == ()
    assert read.source == f"{tmp_path}/kept.jsonl:1"


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"question": "q", "answers": ["a"]}', 'no "id"'),
        ('{"id": "q1", "question": "q", "answers": []}', '"answers" must be a list of texts'),
        ('{"id": "q1", "question": "q", "answers": [7]}', '"answers" must be a list of texts'),
        ('{"id": "q1"', ""),
    ],
)
def test_another_row_is_named_by_its_place(tmp_path, line, what):
    good = Question("q0", "q", ("a",)).as_line()
    (tmp_path / "kept.jsonl").write_text(good + line + "\n")
    with pytest.raises(QuestionError, match=rf"kept\.jsonl:2: .*{what}.*; kept questions are needed here"):
        list(read_kept_questions(tmp_path / "kept.jsonl"))


def test_a_rejected_row_can_be_written_whatever_it_held():
    line = Rejected("f.jsonl", 3, "malformed", "half a character", "wh\ud800t").as_line()
    assert json.loads(line.encode())["question"] == "wh?t"
    assert json.loads(line)["line"] == 3
