import pytest
from transformers import AutoTokenizer

from ragtune.sample.word_tokenizer import build_word_tokenizer, build_wordpiece_tokenizer

TEXTS = ["Washington, D.C. is the capital.", "N'Djamena and Guinea-Bissau are dialled with +235 / +245.", "São Tomé"]


@pytest.mark.parametrize("text", [*TEXTS, "the capital / São Tomé // Washington is +245, and (?"])
def test_decoding_gives_the_text_back(text):
    tokenizer = build_word_tokenizer(TEXTS)
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_a_word_is_one_token_and_a_mark_another():
    tokenizer = build_word_tokenizer(TEXTS)
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("Guinea-Bissau, +245.")["input_ids"])
    assert tokens == ["▁Guinea-Bissau", ",", "▁+245", ".", "</s>"]


def test_white_space_is_one_space():
    tokenizer = build_word_tokenizer(TEXTS)
    assert tokenizer("  the \n capital ")["input_ids"] == tokenizer("the capital")["input_ids"]


def test_rare_words_are_unknown_beyond_the_limit():
    tokenizer = build_word_tokenizer(["a a b"], max_words=1)
    assert tokenizer.convert_ids_to_tokens(tokenizer("a b")["input_ids"]) == ["▁a", "<unk>", "</s>"]


def test_the_generator_s_tokenizer_is_saved_whole(tmp_path):
    tokenizer = build_word_tokenizer(TEXTS)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for text in TEXTS:
        assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
        assert loaded.decode(loaded(text)["input_ids"], skip_special_tokens=True) == text


def test_the_encoder_s_tokenizer_keeps_words_whole_and_spells_the_rest():
    tokenizer = build_wordpiece_tokenizer(TEXTS)
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("Capital of Sao Tome")["input_ids"])
    assert tokens == ["[CLS]", "capital", "o", "[UNK]", "sao", "tome", "[SEP]"] or tokens == [
        "[CLS]", "capital", "[UNK]", "sao", "tome", "[SEP]",
    ]  # fmt: skip
