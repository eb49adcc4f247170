"""Write the little world: a corpus, and questions about it in Natural Questions' simplified layout.

    python -m ragtune.sample.make_world [FOLDER]

The questions are split by subject: a country, element or state that the test set asks about is never asked about in
training or validation. What a model gets right there it has read in the passage, not learnt by heart.
"""

import argparse
import gzip
import json
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragtune.files import atomic_file
from ragtune.sample.facts import Subject, read_subjects
from ragtune.sample.wording import OPENINGS, QUESTIONS, SENTENCES

SPLIT_SHARES = {"train": 0.6, "validation": 0.1, "test": 0.3}  # of the subjects of each kind
QUESTIONS_PER_TRAINING_FACT = 4
REJECTED_SHARE = 0.04  # rows beside the good ones that the filter must turn away
_SEED = 17
_PAGES = "https://example.org/world/"


@dataclass(frozen=True)
class Page:
    """A passage as told, and where in its document each fact stands.

    Attributes:
        passage: {"id", "title", "text"}, a row of the corpus.
        tokens: the document of the questions about it, in NQ's tokens.
        spans: by relation, (start, end) of the value in `tokens`, end exclusive.
        sentences: by relation, (start, end) of the sentence that tells it.
    """

    subject: Subject
    passage: dict[str, str]
    tokens: list[str]
    spans: dict[str, tuple[int, int]]
    sentences: dict[str, tuple[int, int]]


def make_world(folder: str | Path) -> dict[str, int]:
    """Write corpus.jsonl and {train,validation,test}.simplified.jsonl.gz into `folder`; the same bytes every time.

    Returns:
        The number of rows of each file.
    """
    folder = Path(folder)
    pages = tell_pages(read_subjects())
    counts = {"corpus": _write_rows(folder / "corpus.jsonl", (page.passage for page in pages))}
    for split, split_pages in split_by_subject(pages).items():
        rows = ask_questions(split_pages, QUESTIONS_PER_TRAINING_FACT if split == "train" else 1, split)
        counts[split] = _write_rows(folder / f"{split}.simplified.jsonl.gz", rows)
    return counts


def tell_pages(subjects: list[Subject]) -> list[Page]:
    """One page a subject: an opening, then its facts in a random order, each in one of its relation's wordings."""
    return [_tell_page(subject, number) for number, subject in enumerate(subjects)]


def split_by_subject(pages: list[Page]) -> dict[str, list[Page]]:
    """Deal the pages of each kind out to train, validation and test, in the shares of SPLIT_SHARES."""
    splits: dict[str, list[Page]] = {split: [] for split in SPLIT_SHARES}
    for kind in OPENINGS:
        of_kind = [page for page in pages if page.subject.kind == kind]
        random.Random(f"{_SEED} split {kind}").shuffle(of_kind)
        start = 0.0
        for split, share in SPLIT_SHARES.items():
            end = start + share * len(of_kind)
            splits[split].extend(of_kind[round(start) : round(end)])
            start = end
    return splits


def ask_questions(pages: list[Page], questions_per_fact: int, split: str) -> list[dict[str, Any] | str]:
    """NQ rows that ask about every fact of the pages, shuffled, with some among them that must be turned away."""
    chance = random.Random(f"{_SEED} questions {split}")
    rows: list[dict[str, Any] | str] = []
    for page in pages:
        for relation in page.spans:
            for wording in chance.sample(QUESTIONS[relation], questions_per_fact):
                rows.append(_answered(page, relation, wording.format(x=page.subject.in_a_sentence)))
    rejected = max(len(_UNFIT), round(REJECTED_SHARE * len(rows)))
    for number in range(rejected):
        rows.append(_UNFIT[number % len(_UNFIT)](chance.choice(pages), chance))
    chance.shuffle(rows)
    for number, row in enumerate(rows):
        if isinstance(row, dict):
            row["example_id"] = number
    return rows


def _tell_page(subject: Subject, number: int) -> Page:
    chance = random.Random(f"{_SEED} page {subject.name}")
    name = subject.in_a_sentence
    text = [_upper_first(chance.choice(OPENINGS[subject.kind]).format(x=name))]
    tokens = ["<H1>", *subject.name.split(), "</H1>", "<P>", *_tokenize(text[0])]
    spans, sentences = {}, {}
    relations = list(subject.facts)
    chance.shuffle(relations)
    for relation in relations:
        value = subject.facts[relation]
        sentence = _upper_first(chance.choice(SENTENCES[relation]).format(x=name, v=value)).replace("..", ".")
        told = _tokenize(sentence)
        answer = _tokenize(value.removeprefix("the "))
        start = next(at for at in range(len(told)) if told[at : at + len(answer)] == answer)
        spans[relation] = (len(tokens) + start, len(tokens) + start + len(answer))
        sentences[relation] = (len(tokens), len(tokens) + len(told))
        tokens += told
        text.append(sentence)
    passage = {"id": f"{subject.kind}-{number:03d}", "title": subject.name, "text": " ".join(text)}
    return Page(subject, passage, [*tokens, "</P>"], spans, sentences)


def _tokenize(text: str) -> list[str]:
    """NQ's tokens: a full stop or comma stands alone, unless it belongs to an abbreviation."""
    return re.sub(r"(?<!\.\w)([.,])(?= |$)", r" \1", text).split()


def _upper_first(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def _row(page: Page, question: str, short: list[tuple[int, int]], yes_no: str = "NONE") -> dict[str, Any]:
    start, end = page.tokens.index("<P>"), len(page.tokens)
    return {
        "example_id": 0,
        "question_text": question,
        "document_url": _PAGES + page.subject.name.replace(" ", "_"),
        "document_text": " ".join(page.tokens),
        "long_answer_candidates": [{"start_token": start, "end_token": end, "top_level": True}],
        "annotations": [
            {
                "annotation_id": 0,
                "yes_no_answer": yes_no,
                "long_answer": {"start_token": start, "end_token": end, "candidate_index": 0},
                "short_answers": [{"start_token": first, "end_token": last} for first, last in short],
            }
        ],
    }


def _answered(page: Page, relation: str, question: str) -> dict[str, Any]:
    return _row(page, question, [page.spans[relation]])


def _yes_no(page: Page, chance: random.Random) -> dict[str, Any]:
    relation = chance.choice(list(page.spans))
    question = f"is {page.subject.facts[relation]} the {relation} of {page.subject.in_a_sentence}"
    return _row(page, question, [], yes_no="YES")


def _long_only(page: Page, chance: random.Random) -> dict[str, Any]:
    return _row(page, f"tell me something about {page.subject.in_a_sentence}", [])


def _over_long(page: Page, chance: random.Random) -> dict[str, Any]:
    relation = chance.choice([relation for relation, (start, end) in page.sentences.items() if end - start > 5])
    return _row(page, f"what is known of the {relation} of {page.subject.in_a_sentence}", [page.sentences[relation]])


def _empty(page: Page, chance: random.Random) -> dict[str, Any]:
    row = _row(page, f"where is {page.subject.in_a_sentence} going", [])
    row["annotations"][0]["long_answer"] = {"start_token": -1, "end_token": -1, "candidate_index": -1}
    return row


def _without_annotations(page: Page, chance: random.Random) -> dict[str, Any]:
    row = _row(page, f"what about {page.subject.in_a_sentence}", [])
    del row["annotations"]
    return row


def _past_the_end(page: Page, chance: random.Random) -> dict[str, Any]:
    end = len(page.tokens)
    return _row(page, f"what comes after {page.subject.in_a_sentence}", [(end + 1, end + 3)])


def _cut_off(page: Page, chance: random.Random) -> str:
    return json.dumps(_row(page, f"what of {page.subject.in_a_sentence}", []), ensure_ascii=False)[:200]


_UNFIT = (_yes_no, _long_only, _over_long, _empty, _without_annotations, _past_the_end, _cut_off)


def _write_rows(path: Path, rows: Iterable[dict[str, Any] | str]) -> int:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    content = "".join(f"{line}\n" for line in lines).encode()
    with atomic_file(path, "wb") as stream:
        # no time and no name in gzip's header: the same rows are the same bytes
        stream.write(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    return len(lines)


def main() -> None:
    """The command line: write the files into FOLDER, by default where this module lies."""
    parser = argparse.ArgumentParser(description="Write the sample's corpus and questions.")
    parser.add_argument("folder", nargs="?", default=Path(__file__).parent, type=Path)
    folder = parser.parse_args().folder
    for name, rows in make_world(folder).items():
        print(f"{folder}: {rows} rows of {name}")


if __name__ == "__main__":
    main()
