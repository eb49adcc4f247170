import copy
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ragtune.errors import QuestionError
from ragtune.questions.cleaning import text_id
from ragtune.questions.layouts import LAYOUTS, layout_of
from ragtune.questions.nq import read_questions
from ragtune.questions.question import Question, Rejected, read_kept_questions

TOKENS = (
    "<h1> Google Inc. </h1> <p> Google was founded in 1998 by <ul> <li> Larry Page , PhD </li> <li> Sergey </li> </ul>"
)
SPANS = [{"start_token": 12, "end_token": 18}, {"start_token": 19, "end_token": 20}]
ANSWERS = ("Larry Page, PhD", "Sergey")
FOUND = {"start_token": 4, "end_token": 22, "candidate_index": 0}
NONE = {"start_token": -1, "end_token": -1, "candidate_index": -1}


def annotation(spans=(), yes_no="NONE", long_answer=FOUND):
    return {"yes_no_answer": yes_no, "long_answer": long_answer, "short_answers": list(spans)}


def simplified(*annotations):
    return {
        "example_id": 7,
        "question_text": "who founded google",
        "document_text": TOKENS,
        "annotations": list(annotations),
    }


def original(*annotations):
    tokens, place = [], 0
    for token in TOKENS.split(" "):
        tokens.append(
            {"token": token, "html_token": token[0] == "<", "start_byte": place, "end_byte": place + len(token)}
        )
        place += len(token) + 1
    row = simplified(*annotations) | {"document_tokens": tokens, "document_title": "Google"}
    del row["document_text"]
    return row


def hugging_face(*annotations, columns=False):
    answers = {"NONE": -1, "NO": 0, "YES": 1}
    tokens = [{"token": token, "is_html": token[0] == "<"} for token in TOKENS.split(" ")]
    marked = [dict(item, yes_no_answer=answers[item["yes_no_answer"]]) for item in copy.deepcopy(annotations)]
    if columns:  # as the datasets package gives a Sequence of objects
        tokens = {name: [token[name] for token in tokens] for name in ("token", "is_html")}
        for item in marked:
            item["short_answers"] = {
                name: [span[name] for span in item["short_answers"]] for name in ("start_token", "end_token")
            }
        marked = {name: [item[name] for item in marked] for name in marked[0]}
    return {
        "id": "7",
        "question": {"text": "who founded google", "tokens": ["who"]},
        "document": {"title": "Google", "html": "<p>", "tokens": tokens},
        "annotations": marked,
    }


MAKERS = {
    "nq-original": original,
    "nq-simplified": simplified,
    "nq-huggingface": hugging_face,
    "nq-huggingface by columns": lambda *annotations: hugging_face(*annotations, columns=True),
}
SQUAD = {
    "version": "1.1",
    "data": [
        {
            "title": "Super_Bowl_50",
            "paragraphs": [
                {
                    "context": "…",
                    "qas": [{"id": "a", "question": "who won", "answers": [{"text": "Denver Broncos"}] * 2}],
                },
                {"context": "…", "qas": [{"id": "b", "question": "when", "answers": [{"text": "2016"}]}]},
            ],
        },
        {"title": "Warsaw", "paragraphs": [{"qas": [{"id": "c", "question": "how many", "answers": []}]}]},
    ],
}


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path, *rows, **options):
    return list(read_questions(write(path, *rows), **options))


@pytest.fixture
def file(tmp_path):
    return tmp_path / "q.jsonl"


@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)
def test_each_layout_of_natural_questions_gives_the_same_answers(file, maker):
    (question,) = read(file, maker(annotation(SPANS)))
    assert (question.id, question.question, question.answers) == ("7", "who founded google", ANSWERS)
    assert question.source == f"{file}:1"


@pytest.mark.parametrize("maker", [original, hugging_face])
def test_the_title_is_kept_where_there_is_one(file, maker):
    assert read(file, maker(annotation(SPANS)))[0].title == "Google"


@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)
def test_all_annotators_are_heard_and_each_answer_is_kept_once(file, maker):
    row = maker(annotation(SPANS[1:]), annotation(long_answer=NONE), annotation(SPANS), annotation(yes_no="YES"))
    assert read(file, row)[0].answers == ("Sergey", "Larry Page, PhD")


@pytest.mark.parametrize(
    ("annotations", "reason"),
    [
        ([annotation(yes_no="YES")], "yes_no"),
        ([annotation(), annotation(yes_no="NO")], "yes_no"),
        ([annotation()], "long_only"),
        ([annotation(long_answer=NONE)], "empty"),
        ([annotation([{"start_token": 11, "end_token": 12}])], "empty"),  # markup alone
        ([annotation([{"start_token": 20, "end_token": 99}])], "malformed"),
        ([annotation([{"start_token": 5, "end_token": 5}])], "malformed"),
        ([annotation([{"start_token": "5", "end_token": 6}])], "malformed"),
    ],
)
@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)
def test_a_row_without_short_answers_says_why(file, maker, annotations, reason):
    (row,) = read(file, maker(*annotations))
    assert (row.reason, row.question, row.line) == (reason, "who founded google", 1)


def test_tokens_that_touch_in_the_page_are_joined(file):
    row = original(annotation(SPANS))
    row["document_tokens"][14]["start_byte"] = row["document_tokens"][13]["end_byte"]
    assert read(file, row)[0].answers[0] == "LarryPage, PhD"


def test_the_features_on_the_hub_are_read_from_parquet_too(tmp_path):
    pq.write_table(pa.Table.from_pylist([hugging_face(annotation(SPANS))]), tmp_path / "q.parquet")
    assert next(read_questions(tmp_path / "q.parquet")).answers == ANSWERS


def test_the_features_on_the_hub_are_streamed_by_datasets(tmp_path):
    pytest.importorskip("datasets")
    write(tmp_path / "train.jsonl", hugging_face(annotation(SPANS), columns=True))
    assert next(read_questions(f"hf://{tmp_path}?split=train")).answers == ANSWERS


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("name", ["q.json", "q.json.gz"])
def test_squad_is_one_object_of_articles(tmp_path, indent, name):
    text = json.dumps(SQUAD, indent=indent).encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    first, second, third = read_questions(tmp_path / name)
    assert (first.id, first.answers, first.title) == ("a", ("Denver Broncos",), "Super Bowl 50")
    assert second.answers == ("2016",)
    assert third.reason == "empty"


@pytest.mark.parametrize(
    "row",
    [
        {"question": "Who won?", "answer": ["Denver", "the Denver", "Broncos"]},
        {"question": "Who won?", "answers": ["Denver", "Broncos"]},
        {"query": "Who won?", "response": ["Denver", "Broncos"]},
        {"question": " Who  won? ", "answers": {"text": ["Denver", "Denver!", "Broncos"], "answer_start": [1, 2, 3]}},
    ],
)
def test_plain_layouts_need_question_and_answers_alone(file, row):
    (question,) = read(file, row)
    assert (question.question, question.answers, question.gold_ids) == ("Who won?", ("Denver", "Broncos"), ())
    assert question.id.startswith("q")


def test_rows_of_query_and_response_are_questions_like_any_other(file):
    plain = {"question": "who", "answers": ["Denver"], "context": "Denver won.", "title": "T", "id": "a"}
    fedrags = {"query": "who", "response": "Denver", "context": "Denver won.", "title": "T", "id": "a"}
    assert read(file, fedrags) == read(file, plain)
    _, second = read(file, fedrags, {"query": ["who"], "response": "x"})
    assert (second.reason, second.detail) == ("malformed", '"query" must be text, this is of type list')


def test_gold_ids_id_and_title_are_kept(file):
    row = {"id": 3, "question": "who", "answers": "Denver", "gold_ids": ["w1", 2], "title": "T"}
    assert read(file, row) == [Question("3", "who", ("Denver",), ("w1", "2"), "T", f"{file}:1")]


def test_ids_are_cleaned_as_those_of_a_corpus_are(file):
    row = {"id": " a\tb ", "question": "who", "answers": "x", "gold_ids": [" w1\n", "w1", "", " ", "w\u00a02", 7, "7"]}
    (question,) = read(file, row)
    assert (question.id, question.gold_ids) == ("a b", ("w1", "w 2", "7"))


def test_an_id_of_white_space_is_none(file):
    (question,) = read(file, {"id": " \t", "question": "who", "answers": "x"})
    assert question.id == read(file, {"question": "who", "answers": "x"})[0].id


def test_a_context_names_the_gold_passage_unless_gold_ids_do(tmp_path, file):
    squad = {"title": "T", "paragraphs": [{"context": " Some  text.", "qas": SQUAD["data"][0]["paragraphs"][0]["qas"]}]}
    (tmp_path / "squad.json").write_text(json.dumps({"data": [squad]}))
    (first,) = read_questions(tmp_path / "squad.json")
    assert first.gold_ids == first.paragraphs == (text_id("Some text."),)
    plain = {"question": "who", "answers": "x", "context": "Some text."}
    pq.write_table(pa.Table.from_pylist([plain]), tmp_path / "q.parquet")
    assert next(read_questions(tmp_path / "q.parquet")).gold_ids == first.gold_ids
    (known,) = read(file, plain | {"gold_ids": ["w1"]})
    assert (known.gold_ids, known.paragraphs) == (("w1",), first.gold_ids)


@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)
def test_long_answers_are_known_but_no_gold_passage(file, maker):
    (question,) = read(file, maker(annotation(SPANS)))
    assert len(question.paragraphs) == 1 and question.gold_ids == ()
    assert read(file, {"question": "who", "answers": "x", "long_answer": "Text"})[0].paragraphs == (text_id("Text"),)


@pytest.mark.parametrize(
    ("address", "title"),
    [
        ("https://en.wikipedia.org/wiki/Deadpool_2", "Deadpool 2"),
        ("https://en.wikipedia.org//w/index.php?title=Email_marketing&amp;oldid=814071202", "Email marketing"),
        ("https://en.wikipedia.org/wiki/Caf%C3%A9", "Café"),
        ("http://[", ""),
        ("", ""),
        (5, ""),
    ],
)
def test_the_simplified_layout_has_its_title_in_the_address(file, address, title):
    assert read(file, simplified(annotation(SPANS)) | {"document_url": address})[0].title == title


@pytest.mark.parametrize(
    ("row", "detail"),
    [
        ({"question": None, "answers": ["a"]}, 'no "question"'),
        ({"question": ["who"], "answers": ["b"]}, '"question" must be text, this is of type list'),
        ({"question": "who", "answers": 5}, '"answers" must be a text or a list of texts'),
        ({"question": "who", "answers": ["x", None]}, '"answers" must be a text or a list of texts'),
        ({"question": "who", "answers": ["x"], "gold_ids": "w1"}, '"gold_ids" must be a list of ids'),
        ({"question": "who", "answer": ["x"]}, 'no "answers"; is this layout "nq-open"'),
        ({"question": "who \ud800", "answers": ["x"]}, "lone surrogate"),
        ({"query": "who", "response": "x"}, 'no "answers"; is this layout "query-response"'),
    ],
)
def test_a_row_of_the_wrong_shape_is_malformed(file, row, detail):
    first, second = read(file, {"question": "who", "answers": ["x"]}, row)
    assert isinstance(first, Question)
    assert second.reason == "malformed"
    assert detail in second.detail


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"annotations": None}, 'no "annotations"'),
        ({"annotations": "x"}, '"annotations" must be a list of objects'),
        ({"document_text": 1}, '"document_text" must be text'),
        ({"question_text": None}, 'no "question_text"'),
        ({"annotations": [{"short_answers": None}]}, 'no "short_answers"'),
    ],
)
def test_a_row_of_natural_questions_of_the_wrong_shape_is_malformed(file, change, detail):
    (row,) = read(file, simplified(annotation(SPANS)) | change)
    assert row.reason == "malformed"
    assert detail in row.detail


@pytest.mark.parametrize(
    "tokens", [5, [5] * 30, [{"token": None, "html_token": False}] * 30, [{"token": "x"}] * 30, {"token": ["x"]}]
)
def test_tokens_of_the_wrong_shape_are_malformed(file, tokens):
    assert read(file, original(annotation(SPANS)) | {"document_tokens": tokens})[0].reason == "malformed"
    row = hugging_face(annotation(SPANS))
    row["document"]["tokens"] = tokens
    assert read(file, row)[0].reason == "malformed"


@pytest.mark.parametrize("article", [{"paragraphs": 3}, {"paragraphs": [3]}, {"paragraphs": [{"qas": [3]}]}])
def test_an_article_of_the_wrong_shape_is_malformed(file, article):
    file.write_text(json.dumps({"data": [article, SQUAD["data"][0]]}))
    assert [type(row) for row in read_questions(file)] == [Rejected, Question, Question]


@pytest.mark.parametrize("question", ["?!", "", " . "])
def test_a_question_of_punctuation_is_empty(file, question):
    assert read(file, {"question": question, "answers": ["x"]})[0].reason == "empty"


@pytest.mark.parametrize("answers", [[], [""], ["the"], ["?", " "]])
def test_answers_of_which_nothing_is_left_are_empty(file, answers):
    assert read(file, {"question": "who", "answers": answers})[0].reason == "empty"


def test_broken_lines_before_the_first_row_do_not_hide_its_layout(file):
    file.write_text('{\n{"other": 1}\n' + json.dumps({"question": "who", "answer": ["x"]}))
    assert [getattr(row, "reason", "kept") for row in read_questions(file)] == ["malformed", "malformed", "kept"]


def test_an_unknown_layout_is_an_error_that_names_the_columns_and_the_known_ones(file):
    with pytest.raises(QuestionError, match=r"q\.jsonl.*columns ask, reply.*nq-open: question, answer"):
        read(file, *[{"ask": "who", "reply": "x"}] * 200)


def test_an_empty_file_is_an_error(file):
    with pytest.raises(QuestionError, match=r"q\.jsonl: is empty"):
        read(file)


def test_a_layout_that_does_not_exist_is_an_error_before_anything_is_read():
    with pytest.raises(QuestionError, match='no layout "nq"; there are auto, nq-original'):
        read_questions("nowhere.jsonl", "nq")


def test_the_layout_can_be_overridden(file):
    both = {"question": "who", "answer": ["x"], "answers": ["y"]}
    assert read(file, both)[0].answers == ("y",)
    assert read(file, both, layout="nq-open")[0].answers == ("x",)


def test_a_wrong_override_names_the_likely_layout(file):
    (row,) = read(file, {"question": "who", "answer": ["x"]}, layout="nq-simplified")
    assert row.detail == 'no "document_text"; is this layout "nq-open"?'


@pytest.mark.parametrize(
    ("name", "layout", "rows", "kept"),
    [
        ("nq/train.simplified.jsonl.gz", "nq-simplified", 1859, 1849),
        ("nq/dev.simplified.jsonl.gz", "nq-simplified", 407, 404),
        ("nq/train.jsonl", "plain", 1859, 1859),
        ("nq_open/questions.jsonl", "nq-open", 4524, 4521),
        ("squad/dev.jsonl", "plain", 865, 865),
        ("nq_formats/simplified.dev_sample.jsonl", "nq-simplified", 1, 1),
        ("nq_formats/dpr-biencoder-format.nq-dev-sample.json", "plain", 5, 5),
    ],
)
def test_real_files_are_read_and_their_layout_is_found(shared_data, name, layout, rows, kept):
    found = list(read_questions(shared_data / name))
    assert len(found) == rows
    assert sum(isinstance(row, Question) for row in found) == kept
    assert found == list(read_questions(shared_data / name, layout))


def test_every_layout_is_told_from_every_other():
    rows = {name: maker(annotation(SPANS)) for name, maker in MAKERS.items() if name in LAYOUTS}
    rows |= {
        "squad": SQUAD["data"][0],
        "plain": {"question": "", "answers": []},
        "nq-open": {"question": "", "answer": []},
        "query-response": {"query": "", "response": ""},
    }
    assert {name: layout_of(row) for name, row in rows.items()} == {name: name for name in LAYOUTS}


def test_kept_questions_are_read_back_as_they_were(file):
    question = Question("é", "who", ("x", "y"), ("w1",), "T", "elsewhere.jsonl:9")
    file.write_text(question.as_line())
    assert list(read_kept_questions(file)) == [question]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"q\.jsonl:1: broken JSON"),
        ('{"id": "a", "question": "b"}', r'q\.jsonl:1: no "answers"; kept questions are needed'),
        ('{"id": "a", "question": "b", "answers": []}', r"q\.jsonl:1: \"answers\" must be a list of texts"),
        ('{"id": "a", "question": "b", "answers": 5}', r"q\.jsonl:1: "),
    ],
)
def test_a_file_of_something_else_is_no_file_of_kept_questions(file, line, message):
    file.write_text(line)
    with pytest.raises(QuestionError, match=message):
        list(read_kept_questions(file))
