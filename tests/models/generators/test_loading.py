import pytest
from tiny_parts import generator_and_tokenizer

from ragtune.errors import ModelError
from ragtune.models.generators.loading import load_generator
from ragtune.models.generators.seq2seq import Seq2SeqGenerator


def test_an_encoder_decoder_is_loaded_as_one(tmp_path):
    model, tokenizer = generator_and_tokenizer("bart")
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    generator = load_generator(tmp_path)
    assert isinstance(generator, Seq2SeqGenerator) and not generator.backbone.training


def test_a_folder_that_is_no_model_is_told(tmp_path):
    with pytest.raises(ModelError, match=str(tmp_path)):
        load_generator(tmp_path)
