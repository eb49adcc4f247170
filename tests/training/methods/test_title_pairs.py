"""Titles of a corpus as questions, and its passages without them."""

import pytest
from world import COUNTRIES, PASSAGES

from ragtune.errors import TrainingError
from ragtune.knowledge.passages import Passage
from ragtune.models.encoders import Encoder
from ragtune.training.methods.title_pairs import Untitled, title_pairs


def test_a_title_asks_for_all_passages_under_it(still_world):
    encoder = Encoder.from_pretrained(still_world.encoder)
    corpus = [*PASSAGES[:2], Passage("more", COUNTRIES[0], "another text", ("more",)), Passage("none", "", "text", ())]
    rows = title_pairs(corpus, encoder, 16)
    assert [(row["question"], row["gold_ids"]) for row in rows] == [
        (COUNTRIES[0], ["p0", "more"]),
        (COUNTRIES[1], ["p1"]),
    ]
    assert rows[1]["question_input_ids"] == encoder.tokenizer(COUNTRIES[1])["input_ids"]


def test_passages_without_their_titles_are_the_same_otherwise():
    untitled = Untitled(PASSAGES)
    assert len(untitled) == len(PASSAGES)
    assert (untitled[3].title, untitled[3].text) == ("", PASSAGES[3].text)
    assert [passage.title for passage in untitled] == [""] * len(PASSAGES)


@pytest.mark.parametrize(("title", "found"), [("", "no title"), ("same", "one title only")])
def test_a_corpus_without_titles_has_no_title_pairs(still_world, title, found):
    corpus = [Passage(str(n), title, "text", (str(n),)) for n in range(3)]
    with pytest.raises(TrainingError, match=rf"pairs=titles: the 3 .* have {found}; .* or set pairs=questions"):
        title_pairs(corpus, Encoder.from_pretrained(still_world.encoder), 16)
