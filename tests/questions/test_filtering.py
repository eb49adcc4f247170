import collections
import json
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ragtune.errors import QuestionError, StorageError
from ragtune.questions.filtering import filter_questions
from ragtune.questions.normalization import normalize_question
from ragtune.questions.question import REASONS, read_kept_questions

SPLITS = ("train", "validation", "test")


def row(question, *answers, **columns):
    return {"question": question, "answers": list(answers or ["x"]), **columns}


def many(count, start=0):
    return [row(f"question {number}") for number in range(start, start + count)]


def write(path, rows):
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in rows))
    return path


def run(folder, rows, **options):
    """Counts, split → questions, and rejected rows."""
    source = write(folder / "source.jsonl", rows) if isinstance(rows, list) else rows
    paths = [folder / "out" / f"{name}.jsonl" for name in (*SPLITS, "rejected")]
    counts = filter_questions(source, *paths, **options)
    kept = {split: list(read_kept_questions(path)) for split, path in zip(SPLITS, paths[:3], strict=True)}
    return counts, kept, [json.loads(line) for line in open(paths[3])]


def everything(kept):
    return [question for split in SPLITS for question in kept[split]]


ALL_TRAIN = {"validation_fraction": 0, "test_fraction": 0}


def test_every_row_is_kept_once_or_rejected_with_a_reason(tmp_path):
    rows = [*many(200), *many(10), '{"question": \n', row("?!"), row("who", "one two three four five six")]
    counts, kept, rejected = run(tmp_path, rows)
    assert counts["questions_kept"] == len(everything(kept)) == 200
    assert counts["questions_rejected"] == len(rejected) == 13
    assert {name: counts[f"rejected_{name}"] for name in REASONS if counts[f"rejected_{name}"]} == {
        "duplicate": 10,
        "malformed": 1,
        "empty": 1,
        "over_long": 1,
    }
    assert counts["questions_read"] == len(rows)
    assert {split: counts[split] for split in SPLITS} == {split: len(kept[split]) for split in SPLITS}


def test_a_rejected_row_names_its_file_line_and_question(tmp_path):
    _, _, rejected = run(tmp_path, [row("who"), row("Who?", "y")], **ALL_TRAIN)
    assert rejected == [
        {
            "file": str(tmp_path / "source.jsonl"),
            "line": 2,
            "reason": "duplicate",
            "detail": "the same question came before",
            "question": "Who?",
        }
    ]


def test_answers_beyond_the_limit_go_and_the_others_stay(tmp_path):
    rows = [row("who", "a b c", "b", "d e f g", "The  b", "c")]
    _, kept, _ = run(tmp_path, rows, max_answer_words=3, **ALL_TRAIN)
    assert kept["train"][0].answers == ("a b c", "b", "c")


def test_answers_without_spaces_are_measured_in_characters(tmp_path):
    rows = [
        row("他在哪里", "北京"),
        row("国名是什么", "中华人民共和国"),
        row("为什么", "因为他在北京工作了很多年以后走了"),
    ]
    _, kept, rejected = run(tmp_path, rows, **ALL_TRAIN)
    assert [question.answers for question in kept["train"]] == [("北京",), ("中华人民共和国",)]
    assert rejected[0]["detail"] == "its shortest answer has 8 words, 5 are allowed"


def test_a_question_rejected_once_may_be_kept_later(tmp_path):
    counts, kept, _ = run(tmp_path, [row("who", "b c d e f g"), row("who", "b")], **ALL_TRAIN)
    assert [question.answers for question in kept["train"]] == [("b",)]
    assert counts["rejected_duplicate"] == 0


def test_splits_have_about_the_shares_asked_for(tmp_path):
    counts, _, _ = run(tmp_path, many(4000), validation_fraction=0.1, test_fraction=0.2)
    assert counts["validation"] == pytest.approx(400, rel=0.15)
    assert counts["test"] == pytest.approx(800, rel=0.15)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_the_same_question_is_never_in_two_splits(tmp_path, data):
    """However it is spelled, in whatever order and beside whatever other questions it comes."""
    base = data.draw(st.lists(st.text("ab1", min_size=1, max_size=4), min_size=1, max_size=6, unique=True))
    spelling = st.sampled_from([str.upper, str.lower, lambda text: f" {text} ?", lambda text: f"“{text}”"])
    asked = data.draw(st.lists(st.builds(lambda text, spell: spell(text), st.sampled_from(base), spelling), min_size=1))
    split_of = collections.defaultdict(set)
    for questions in (asked, asked[::-1], [*asked, "another one"]):
        rows = [*many(300), *map(row, questions)]
        _, kept, _ = run(tmp_path, rows, validation_fraction=0.3, test_fraction=0.3)
        for split in SPLITS:
            for question in kept[split]:
                split_of[normalize_question(question.question)].add(split)
    assert all(len(splits) == 1 for splits in split_of.values())


def test_questions_of_the_test_source_are_kept_out_of_the_others(tmp_path):
    tests, validations = write(tmp_path / "t.jsonl", many(20)), write(tmp_path / "v.jsonl", many(20, start=10))
    counts, kept, _ = run(tmp_path, many(60), test_uri=tests, validation_uri=validations)
    assert {split: counts[split] for split in SPLITS} == {"train": 30, "validation": 10, "test": 20}
    assert (counts["rejected_in_test"], counts["rejected_in_validation"]) == (30, 10)
    assert len({question.question for question in everything(kept)}) == 60


def test_with_a_test_source_validation_is_still_split_off(tmp_path):
    tests = write(tmp_path / "t.jsonl", many(5))
    counts, _, _ = run(tmp_path, many(500, start=5), test_uri=tests, validation_fraction=0.2)
    assert counts["test"] == 5
    assert counts["train"] + counts["validation"] == 500
    assert counts["validation"] == pytest.approx(100, rel=0.3)


def test_reading_stops_when_there_are_enough_questions(tmp_path):
    counts, kept, _ = run(tmp_path, many(1000), max_questions=100)
    assert counts["train"] + counts["validation"] == 100
    assert counts["questions_read"] < 150
    assert "question 0" in [question.question for question in everything(kept)]


def test_reading_goes_on_until_the_test_split_has_enough_too(tmp_path):
    counts, _, _ = run(tmp_path, many(2000), max_questions=100, max_test_questions=50)
    assert (counts["train"] + counts["validation"], counts["test"]) == (100, 50)
    assert counts["questions_over_limit"] == counts["questions_read"] - 150


def test_a_test_limit_alone_reads_everything(tmp_path):
    counts, _, _ = run(tmp_path, many(500), max_test_questions=10)
    assert counts["test"] == 10
    assert counts["questions_read"] == 500


def test_no_id_is_given_twice(tmp_path):
    tests = write(tmp_path / "t.jsonl", [row("other", id=0)])
    rows = [row("who", id=0), row("what", id=0), row("when", id=1)]
    _, kept, _ = run(tmp_path, rows, test_uri=tests, validation_fraction=0)
    ids = [question.id for question in everything(kept)]
    assert len(set(ids)) == 4
    assert ids[-1] == "0"


def test_malformed_rows_up_to_the_limit_do_not_stop_it(tmp_path):
    counts, _, _ = run(tmp_path, [*many(10), *["{\n"] * 10], **ALL_TRAIN)
    assert (counts["train"], counts["rejected_malformed"]) == (10, 10)


def test_a_truncated_last_line_is_rejected_as_malformed(tmp_path):
    counts, _, rejected = run(tmp_path, [*many(10), '{"question": "wh'], **ALL_TRAIN)
    assert counts["rejected_malformed"] == 1
    assert rejected[0]["line"] == 11


def test_half_a_character_is_written_to_the_rejected_rows_all_the_same(tmp_path):
    _, _, rejected = run(tmp_path, [row("who"), row("half \ud800", "x")], **ALL_TRAIN)
    assert rejected[0]["question"] == "half ?"


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([], {}, "source.jsonl: is empty"),
        ([*many(10), *["{\n"] * 11], {}, r"11 of 21 rows are malformed.*source\.jsonl:11: broken JSON"),
        (many(10), {"layout": "nq-simplified"}, r'10 of 10 rows.*no "document_text"; is this layout "plain"'),
        (many(3000), {"layout": "nq-open"}, "1,000 of 1,000 rows"),
        (many(10), {"layout": "nq"}, 'no layout "nq"'),
        ([{"query": "who"}] * 10, {}, "in no known layout"),
        ([row("who", "a b c d e f")] * 3, {}, r"no usable question \(3 over_long\)"),
        ([row("who", "")] * 3, {}, r"no usable question \(3 empty\)"),
        (many(3), {"test_fraction": 1e-6}, "none of its 3 usable questions fell to the test split"),
        (many(3), {"test_fraction": 0.5, "validation_fraction": 0.5}, "nothing is left to train on"),
        (many(3), {"test_fraction": -0.1}, "test_fraction = -0.1"),
        (many(3), {"max_rejected_fraction": 2}, "max_rejected_fraction = 2"),
        (many(3), {"max_answer_words": 0}, "max_answer_words = 0"),
    ],
)
def test_what_cannot_be_used_is_an_error_and_leaves_no_file(tmp_path, rows, options, message):
    with pytest.raises(QuestionError, match=message):
        run(tmp_path, rows, **options)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_test_source_without_usable_questions_is_named(tmp_path):
    tests = write(tmp_path / "t.jsonl", [row("who", "a b c d e f")])
    with pytest.raises(QuestionError, match=r"t\.jsonl: no usable question \(1 over_long\)"):
        run(tmp_path, many(10), test_uri=tests)


def test_a_broken_source_leaves_the_old_files_as_they_were(tmp_path):
    run(tmp_path, many(10), **ALL_TRAIN)
    before = (tmp_path / "out" / "train.jsonl").read_bytes()
    (tmp_path / "source.jsonl").write_bytes(b'{"question": "who", "answers": ["\xe9"]}\n')
    with pytest.raises(StorageError, match=r"source\.jsonl:1: is not UTF-8"):
        run(tmp_path, tmp_path / "source.jsonl", **ALL_TRAIN)
    assert (tmp_path / "out" / "train.jsonl").read_bytes() == before
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_real_questions_are_filtered_in_a_second(tmp_path, shared_data):
    start = time.perf_counter()
    counts, _, rejected = run(
        tmp_path,
        shared_data / "nq/train.simplified.jsonl.gz",
        test_uri=shared_data / "nq/dev.simplified.jsonl.gz",
    )
    assert time.perf_counter() - start < 3, "0.2 s on a quiet machine"
    assert counts["questions_kept"] == 1848 + 404
    assert counts["test"] == 404
    assert collections.Counter(line["reason"] for line in rejected) == {
        "long_only": 13,
        "over_long": 1,
    }  # a Japanese title
