import json

import pytest

from ragtune.errors import QuestionError
from ragtune.questions.tokenizer import load_question_prompt, load_tokenizer, tokenizer_fingerprint

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


def test_a_sentence_transformers_folder_has_its_tokenizer_where_modules_json_says(bart_tokenizer, tmp_path):
    bart_tokenizer.save_pretrained(tmp_path / "0_Transformer")
    (tmp_path / "modules.json").write_text(json.dumps([{"path": "0_Transformer", "type": "x.Transformer"}]))
    (tmp_path / "0_Transformer" / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
    (tmp_path / "config_sentence_transformers.json").write_text('{"prompts": {"query": "query: "}}')
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer("Linda").input_ids == bart_tokenizer("linda").input_ids
    assert load_question_prompt(tmp_path) == "query: "


def test_a_real_sentence_transformers_folder_is_loaded(minilm):
    tokenizer = load_tokenizer(minilm)
    assert tokenizer.decode(tokenizer("Who?").input_ids) == "[CLS] who? [SEP]"
    assert load_question_prompt(minilm) == ""


@pytest.mark.parametrize("folder", ["absent", "empty"])
def test_a_folder_without_tokenizer_is_an_error(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(QuestionError, match=f"{folder}: its tokenizer cannot be loaded"):
        load_tokenizer(tmp_path / folder)


def test_a_folder_with_a_configuration_alone_gets_no_made_up_tokenizer(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bart"}')
    with pytest.raises(QuestionError, match=r"its tokenizer cannot be loaded: none of .*vocab\.json.* is there"):
        load_tokenizer(tmp_path)
