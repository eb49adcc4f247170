from itertools import islice

import numpy as np
import pytest

from ragtune.errors import KnowledgeBaseError
from ragtune.knowledge.passages import Passage
from ragtune.models.encoders import Encoder
from ragtune.sample.inverse_cloze import inverse_cloze_batches, inverse_cloze_loss, tiny_encoder
from ragtune.sample.word_tokenizer import build_wordpiece_tokenizer

PASSAGES = [
    Passage(str(number), f"Land{number}", f"Land{number} is big. It is cold. Its king is Rex{number}.", (str(number),))
    for number in range(10)
]


def encoder():
    return tiny_encoder(build_wordpiece_tokenizer(f"{passage.title} {passage.text}" for passage in PASSAGES))


def test_most_sentences_are_taken_out_of_their_passage():
    left = [
        sentence in rest
        for sentences, rests in islice(inverse_cloze_batches(PASSAGES, 5), 40)
        for sentence, rest in zip(sentences, rests, strict=True)
    ]
    assert 0 < sum(left) < 0.3 * len(left)


def test_no_passage_is_twice_in_a_batch():
    for _, rests in islice(inverse_cloze_batches(PASSAGES, 8), 20):
        assert len({rest.split(".")[0] for rest in rests}) == 8


def test_a_passage_keeps_its_title():
    _, rests = next(inverse_cloze_batches(PASSAGES, 10))
    assert {rest.split(".")[0] for rest in rests} == {passage.title for passage in PASSAGES}


def test_one_passage_is_too_few():
    with pytest.raises(KnowledgeBaseError, match="two passages"):
        next(inverse_cloze_batches(PASSAGES[:1], 8))


def test_the_loss_is_small_where_sentence_and_passage_are_alike():
    texts = [passage.text for passage in PASSAGES]
    assert inverse_cloze_loss(encoder(), texts, texts) < inverse_cloze_loss(encoder(), texts, texts[1:] + texts[:1])


def test_it_is_kept_as_a_sentence_transformers_folder(tmp_path):
    saved = encoder()
    saved.save_pretrained(tmp_path)
    loaded = Encoder.from_pretrained(tmp_path)
    assert (tmp_path / "modules.json").exists()
    assert loaded.normalizes
    np.testing.assert_allclose(loaded.encode(["Land3 is cold"]), saved.encode(["Land3 is cold"]), atol=1e-6)
