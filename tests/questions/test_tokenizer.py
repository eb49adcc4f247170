import pytest

from ragtune.hub import load_tokenizer
from ragtune.questions.tokenizer import tokenizer_fingerprint

TOKENIZERS = ["bart_tokenizer", "t5_tokenizer"]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_fingerprint_outlives_saving_and_use(request, tmp_path, name):
    tokenizer = request.getfixturevalue(name)
    before = tokenizer_fingerprint(tokenizer)
    tokenizer(["a longer text", "b"], truncation=True, max_length=4, padding=True)
    assert tokenizer_fingerprint(tokenizer) == before
    tokenizer.save_pretrained(tmp_path)
    assert tokenizer_fingerprint(load_tokenizer(tmp_path)) == before


def test_fingerprints_tell_tokenizers_apart(bart_tokenizer, t5_tokenizer, tmp_path):
    bart_tokenizer.save_pretrained(tmp_path)
    grown = load_tokenizer(tmp_path)
    grown.add_tokens(["Röntgen"])
    fingerprints = {tokenizer_fingerprint(tokenizer) for tokenizer in (bart_tokenizer, t5_tokenizer, grown)}
    assert len(fingerprints) == 3
    assert all(len(fingerprint) == 64 for fingerprint in fingerprints)
