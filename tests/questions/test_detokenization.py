import gzip
import json

import pytest

from ragtune.questions.detokenization import detokenize, is_html
from ragtune.questions.normalization import normalize_answer


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ("October 4 , 1988", "October 4, 1988"),
        ("150 , 782", "150,782"),
        ("7 , 731 , 004 SEK", "7,731,004 SEK"),
        ("Denmark , Iceland and Norway", "Denmark, Iceland and Norway"),
        ("J. R. R. Tolkien 's", "J. R. R. Tolkien's"),
        ("`` Lucky Penny ''", '"Lucky Penny"'),
        ("The Mother ( character )", "The Mother (character)"),
        ("two - time", "two-time"),
        ("1940 – 1942", "1940–1942"),
        ("$ 1.06 trillion", "$1.06 trillion"),
        ("US $ 11,770", "US$11,770"),
        ("55 %", "55%"),
        ("Exodus 20 : 7", "Exodus 20:7"),
        ("R & B", "R&B"),
        ("Ant & Dec", "Ant & Dec"),
        ("do n't", "don't"),
        ("− 128.6", "−128.6"),
        ("", ""),
    ],
)
def test_tokens_become_text(tokens, text):
    assert detokenize(tokens.split()) == text


def test_tokens_that_touched_in_the_document_stay_together():
    assert detokenize(["H", "2", "O", "is"], [False, True, True, False]) == "H2O is"


@pytest.mark.parametrize("tag", ["<P>", "</P>", '<Td_colspan="2">', "<h1>"])
def test_markup_is_told_from_text(tag):
    assert is_html(tag)


@pytest.mark.parametrize("text", ["<3", "P", "<", "a<b>", "<>"])
def test_text_with_brackets_is_no_markup(text):
    assert not is_html(text)


@pytest.mark.parametrize(("split", "share"), [("dev", 1.0), ("train", 0.995)])
def test_spans_give_the_answers_of_nq_open(shared_data, split, share):
    """For each real question one span at least, detokenised, is one of the answers that NQ-open has."""
    agree = total = 0
    with (
        open(shared_data / f"nq/{split}.jsonl") as answered,
        gzip.open(shared_data / f"nq/{split}.simplified.jsonl.gz", "rt") as annotated,
    ):
        for reference, row in zip(map(json.loads, answered), map(json.loads, annotated), strict=True):
            tokens = row["document_text"].split(" ")
            spans = [span for annotation in row["annotations"] for span in annotation["short_answers"]]
            found = {
                normalize_answer(detokenize([t for t in tokens[s["start_token"] : s["end_token"]] if not is_html(t)]))
                for s in spans
            }
            total += bool(spans)
            agree += not found.isdisjoint(map(normalize_answer, reference["answers"]))
    assert agree >= share * total
