import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

import ragtune.sample
from ragtune.sample.facts import read_subjects
from ragtune.sample.make_world import SPLIT_SHARES, ask_questions, make_world, split_by_subject, tell_pages
from ragtune.sample.wording import QUESTIONS, SENTENCES

SAMPLE = Path(ragtune.sample.__file__).parent


@pytest.fixture(scope="module")
def pages():
    return tell_pages(read_subjects())


def content(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def good_rows(rows):
    """Rows that are whole and have a short answer, as (question, answer)."""
    for row in rows:
        if isinstance(row, dict) and row.get("annotations"):
            tokens = row["document_text"].split()
            for span in row["annotations"][0]["short_answers"]:
                answer = tokens[span["start_token"] : span["end_token"]]
                if 0 < len(answer) <= 5:
                    yield row["question_text"], " ".join(answer)


def test_committed_files_are_what_the_script_writes(tmp_path):
    make_world(tmp_path)
    for written in tmp_path.iterdir():
        assert content(SAMPLE / written.name) == content(written), (
            f"{written.name}: run python -m ragtune.sample.make_world"
        )


def test_writing_twice_gives_the_same_bytes(tmp_path):
    make_world(tmp_path / "a")
    make_world(tmp_path / "b")
    for written in (tmp_path / "a").iterdir():
        assert written.read_bytes() == (tmp_path / "b" / written.name).read_bytes()


def test_every_passage_tells_every_fact_of_its_subject(pages):
    for page in pages:
        assert page.spans.keys() == page.subject.facts.keys()
        for value in page.subject.facts.values():
            assert value.removeprefix("the ") in page.passage["text"]


def test_spans_hold_the_fact_s_value(pages):
    for page in pages:
        for relation, (start, end) in page.spans.items():
            told = " ".join(page.tokens[start:end]).replace(" ,", ",")
            assert told == page.subject.facts[relation].removeprefix("the ")


def test_passages_are_short_enough_to_stay_whole(pages):
    assert max(len(page.passage["text"].split()) for page in pages) <= 100


def test_no_subject_is_in_two_splits(pages):
    splits = split_by_subject(pages)
    names = [page.subject.name for split in splits.values() for page in split]
    assert sorted(names) == sorted(page.subject.name for page in pages)
    for split, share in SPLIT_SHARES.items():
        assert len(splits[split]) == pytest.approx(share * len(pages), abs=2)


def test_most_held_out_answers_never_occur_in_training(pages):
    splits = split_by_subject(pages)
    known = {answer for _, answer in good_rows(ask_questions(splits["train"], 4, "train"))}
    for split in ("validation", "test"):
        answers = [answer for _, answer in good_rows(ask_questions(splits[split], 1, split))]
        assert sum(answer not in known for answer in answers) >= 0.6 * len(answers)


def test_no_question_is_asked_twice_with_different_answers(pages):
    asked = Counter(question for question, _ in good_rows(ask_questions(pages, 5, "all")))
    assert asked.most_common(1)[0][1] == 1


def test_every_split_holds_rows_to_turn_away(pages):
    for split in ("train", "validation", "test"):
        rows = ask_questions(split_by_subject(pages)[split], 4, split)
        kinds = {
            "cut off": any(isinstance(row, str) for row in rows),
            "yes/no": any("YES" in json.dumps(row) for row in rows),
            "no annotations": any(isinstance(row, dict) and "annotations" not in row for row in rows),
        }
        assert all(kinds.values()), kinds
        assert len(list(good_rows(rows))) >= 0.9 * len(rows)


def test_every_relation_has_several_wordings():
    assert SENTENCES.keys() == QUESTIONS.keys()
    assert all(len(set(wordings)) >= 4 for wordings in [*SENTENCES.values(), *QUESTIONS.values()])
