import json

import pytest

from ragtune.evaluation.champion import deciding_metric, learnt_by_either
from ragtune.questions.learnt import write_learnt
from ragtune.questions.question import Question

QUESTIONS = [Question(f"q{n}", f"which number is {n}?", ("a",)) for n in range(4)]


@pytest.fixture
def folders(tmp_path):
    for name, learnt in (("mine", ["which number is 0?"]), ("theirs", ["Which number is 2", "another"]), ("none", [])):
        (tmp_path / name).mkdir()
        write_learnt(tmp_path / name, learnt)
    (tmp_path / "silent").mkdir()
    return tmp_path


def test_questions_of_either_are_marked_and_counted(folders):
    learnt, told = learnt_by_either(QUESTIONS, folders / "mine", folders / "theirs")
    assert learnt.tolist() == [True, False, True, False]
    assert told == "2 of 4 questions are left out, as one of the two learnt from them"


def test_a_model_that_does_not_tell_is_named(folders):
    learnt, told = learnt_by_either(QUESTIONS, folders / "silent", folders / "theirs")
    assert learnt.tolist() == [False, False, True, False]
    assert told.endswith("; it is not known which questions this model learnt from")
    assert learnt_by_either(QUESTIONS, folders / "none", folders / "silent")[1] == (
        "it is not known which questions the champion learnt from"
    )


def test_there_is_nothing_to_say_where_neither_knows_them(folders):
    learnt, told = learnt_by_either(QUESTIONS, folders / "none", folders / "none")
    assert not learnt.any() and told == ""


@pytest.mark.parametrize(
    ("method", "scores", "expected"),
    [
        ("rag", {"em", "recall@1"}, "em"),
        ("retriever", {"em", "recall@1", "answer_recall@1"}, "recall@1"),
        ("retriever", {"em", "answer_recall@1"}, "answer_recall@1"),
        ("of tomorrow", {"em", "recall@1"}, "em"),
        (None, {"em", "recall@1"}, "em"),
    ],
)
def test_a_model_whose_retriever_alone_learnt_is_judged_by_recall(tmp_path, method, scores, expected):
    lineage = {"parameters": {"method": method}} if method else {}
    (tmp_path / "ragtune.json").write_text(json.dumps({"format": 1, "config": {}, "lineage": lineage}))
    assert deciding_metric(tmp_path, scores) == expected
