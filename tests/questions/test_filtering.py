import collections
import json
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ragtune.errors import ParameterError, QuestionError, StorageError
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
            "detail": "the same question came before; it has this one's answers too",
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


def test_a_maximum_draws_by_a_hash_whatever_the_order(tmp_path):
    rows = many(1000)
    counts, kept, _ = run(tmp_path, rows, max_questions=100, max_test_questions=20)
    assert (counts["train"] + counts["validation"], counts["test"]) == (100, 20)
    assert counts["questions_over_limit"] == 1000 - 120
    numbers = [int(question.question.split()[1]) for question in kept["train"]]
    assert numbers == sorted(numbers)
    assert np.mean(numbers) == pytest.approx(500, abs=100)
    _, again, _ = run(tmp_path, rows[::-1], max_questions=100, max_test_questions=20)
    for split in SPLITS:
        assert {question.question for question in again[split]} == {question.question for question in kept[split]}


def test_a_smaller_draw_is_part_of_a_larger_one_and_of_the_same_splits(tmp_path):
    _, few, _ = run(tmp_path, many(1000), max_questions=100)
    _, more, _ = run(tmp_path, many(1000), max_questions=200)
    for split in SPLITS:
        assert {question.question for question in few[split]} <= {question.question for question in more[split]}


def test_a_draw_leaves_the_shares_as_they_are(tmp_path):
    counts, _, _ = run(tmp_path, many(2000), max_questions=400, validation_fraction=0.25, test_fraction=0)
    assert counts["validation"] == pytest.approx(100, abs=30) and counts["train"] == 400 - counts["validation"]


def test_a_test_limit_alone_keeps_all_for_training(tmp_path):
    counts, _, _ = run(tmp_path, many(500), max_test_questions=10)
    assert counts["test"] == 10
    assert counts["train"] + counts["validation"] > 400


def test_test_questions_that_were_not_drawn_are_not_trained_on(tmp_path):
    tests = write(tmp_path / "t.jsonl", many(20))
    counts, _, _ = run(tmp_path, many(60), test_uri=tests, max_test_questions=5, validation_fraction=0)
    assert (counts["test"], counts["train"], counts["rejected_in_test"]) == (5, 40, 20)
    assert counts["questions_over_limit"] == 15


def test_duplicates_merge_their_answers_gold_ids_and_title(tmp_path):
    rows = [row("who", "w", gold_ids=["w1"]), row("what"), row("Who?", "The W", "b", gold_ids=["w2", "w1"], title="T")]
    counts, kept, rejected = run(tmp_path, rows, **ALL_TRAIN)
    assert [(q.question, q.answers, q.gold_ids, q.title) for q in kept["train"]] == [
        ("who", ("w", "b"), ("w1", "w2"), "T"),
        ("what", ("x",), (), ""),
    ]
    assert (counts["questions_kept"], counts["rejected_duplicate"], len(rejected)) == (2, 1, 1)


def test_duplicates_of_test_questions_leave_their_references_alone(tmp_path):
    tests = write(tmp_path / "t.jsonl", [row("who", "w")])
    _, kept, _ = run(tmp_path, [row("who", "b"), row("what")], test_uri=tests, validation_fraction=0)
    assert kept["test"][0].answers == ("w",)


def about(articles, each, **columns):
    """Questions on articles of so many paragraphs, with two questions on each paragraph."""
    return [
        row(f"{ask} {article} {place}", title=f"Article_{article}", context=f"Paragraph {article} {place}", **columns)
        for article in range(articles)
        for place in range(each)
        for ask in ("who", "what")
    ]


@pytest.mark.parametrize("split_by", ["title", "gold"])
def test_questions_on_one_article_or_paragraph_are_on_one_side(tmp_path, split_by):
    counts, kept, _ = run(tmp_path, about(200, 5), split_by=split_by, test_fraction=0.2)
    own = {split: {q.title if split_by == "title" else q.gold_ids for q in kept[split]} for split in SPLITS}
    assert not own["test"] & (own["train"] | own["validation"]) and not own["validation"] & own["train"]
    assert (counts[f"test_sharing_{split_by}"], counts[f"validation_sharing_{split_by}"]) == (0, 0)
    assert counts["test"] == pytest.approx(400, rel=0.35)


def test_overlap_is_counted_and_told_of_each_held_out_question(tmp_path):
    counts, kept, _ = run(tmp_path, about(20, 5), test_fraction=0.3)
    titles = {question.title for question in kept["train"]}
    golds = {gold for question in kept["train"] for gold in question.gold_ids}
    for split in ("validation", "test"):
        assert [question.overlap for question in kept[split]] == [
            ("title",) * (question.title in titles) + ("gold",) * (question.gold_ids[0] in golds)
            for question in kept[split]
        ]
        assert counts[f"{split}_sharing_title"] == sum("title" in question.overlap for question in kept[split])
        assert counts[f"{split}_sharing_gold"] == sum("gold" in question.overlap for question in kept[split]) > 0
        assert counts[f"{split}_sharing_question"] == 0
    assert all(question.overlap == () for question in kept["train"])


def test_overlap_with_test_questions_of_their_own_is_reported_too(tmp_path):
    tests = [row("when", title="article 1"), row("where", gold_ids=["w1"]), row("why", title="Article_77")]
    rows = [*about(3, 2), row("how", gold_ids=["w1"])]
    counts, kept, _ = run(
        tmp_path, rows, test_uri=write(tmp_path / "t.jsonl", tests), validation_fraction=0, split_by="title"
    )
    assert [question.overlap for question in kept["test"]] == [("title",), ("gold",), ()]
    assert (counts["test_sharing_title"], counts["test_sharing_gold"], counts["train"]) == (1, 1, 13)


def test_gold_passages_connect_questions_over_others(tmp_path):
    """A chain of common passages is on one side, whichever way its questions come."""
    chain = [row(f"link {number}", gold_ids=[f"w{number}", f"w{number + 1}"]) for number in range(30)]
    for rows in (chain, chain[::-1]):
        _, kept, _ = run(tmp_path, [*rows, *many(300)], split_by="gold", test_fraction=0.3)
        assert sorted(sum("link" in question.question for question in kept[split]) for split in SPLITS) == [0, 0, 30]


def connected(prefix):
    """90 questions that hang together by their gold passages, and 10 that do not."""
    chain = [row(f"link {number}", gold_ids=[f"{prefix}{number}", f"{prefix}{number + 1}"]) for number in range(90)]
    return [*chain, *(row(f"free {number}", gold_ids=[f"free {number}"]) for number in range(10))]


def test_most_questions_in_one_group_are_trained_on_or_refused_and_the_widths_are_told(tmp_path, capsys):
    refused = 0
    for prefix in "abcdefghij":
        try:
            counts, kept, _ = run(
                tmp_path, connected(prefix), split_by="gold", test_fraction=0.3, validation_fraction=0
            )
        except QuestionError as error:
            assert "split_by = gold connects 90 of 100 questions, and all of them fell to the test split" in str(error)
            refused += 1
        else:
            assert len(kept["train"]) >= counts["largest_group"] == 90
            assert "of the questions fell to the test split, test_fraction = 0.3" in capsys.readouterr().err
    assert 0 < refused < 10


@pytest.mark.parametrize("split_by", ["question", "title", "gold"])
def test_more_rows_move_no_question_to_another_split(tmp_path, split_by):
    few, more = about(60, 3), [*about(90, 3), *many(200)]
    options = {"split_by": split_by, "test_fraction": 0.2, "validation_fraction": 0.2}
    _, before, _ = run(tmp_path, few, **options)
    _, after, _ = run(tmp_path, more[::-1], **options)
    for split in SPLITS:
        assert {question.question for question in before[split]} <= {question.question for question in after[split]}


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
        (many(1000), {"max_questions": 1}, "1,000 usable questions at max_questions = 1 fell to the validation split"),
        (many(3), {"test_fraction": 0.5, "validation_fraction": 0.5}, "nothing is left to train on"),
        (many(3), {"test_fraction": -0.1}, "test_fraction=-0.1"),
        (many(3), {"max_rejected_fraction": 2}, "max_rejected_fraction=2"),
        (many(3), {"max_answer_words": 0}, "max_answer_words=0"),
        (many(3), {"split_by": "url"}, "split_by=url: must be one of question, title, gold"),
        (many(3), {"split_by": "title"}, r"source\.jsonl: split_by = title, but no question has a title"),
        (many(3), {"split_by": "gold"}, "no question has a gold_ids, context or long answer"),
        (about(1, 3), {"split_by": "title"}, "6 usable questions, in 1 groups by title, fell to the"),
    ],
)
def test_what_cannot_be_used_is_an_error_and_leaves_no_file(tmp_path, rows, options, message):
    with pytest.raises((QuestionError, ParameterError), match=message):
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
    start = time.process_time()
    counts, _, rejected = run(
        tmp_path,
        shared_data / "nq/train.simplified.jsonl.gz",
        test_uri=shared_data / "nq/dev.simplified.jsonl.gz",
    )
    assert time.process_time() - start < 3, "0.5 s on a quiet machine"
    assert counts["questions_kept"] == 1848 + 404
    assert counts["test"] == 404
    assert collections.Counter(line["reason"] for line in rejected) == {
        "long_only": 13,
        "over_long": 1,
    }  # a Japanese title
