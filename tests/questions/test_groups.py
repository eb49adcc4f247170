from ragtune.questions.groups import groups_of
from ragtune.questions.question import Question


def question(number, golds=(), title="", paragraphs=()):
    return Question(f"q{number}", f"question {number}", ("yes",), golds, title, paragraphs=paragraphs)


def test_questions_on_one_passage_or_document_are_one_group_and_those_on_none_go_alone():
    questions = [
        question(0, ("a",)),
        question(1, ("b",)),
        question(2),
        question(3, ("a", "c")),
        question(4, paragraphs=("text-1",), title="Oslo_Fjord"),
        question(5, title="oslo fjord"),
        question(6, paragraphs=("text-1",)),
        question(7),
    ]
    assert groups_of(questions).tolist() == [0, 1, 2, 0, 3, 3, 3, 4]


def test_a_title_that_is_another_questions_gold_id_connects_nothing():
    assert groups_of([question(0, ("oslo",)), question(1, title="oslo")]).tolist() == [0, 1]
