from tiny_parts import bart, bart_tokenizer
from transformers import GenerationConfig

from ragtune.models.generators import decoding
from ragtune.models.generators.decoding import (
    end_tokens,
    one_each,
    only_special_tokens,
    padded_candidates,
    until_end,
)


def test_an_answer_ends_at_the_first_of_a_models_end_tokens():
    assert end_tokens(GenerationConfig(eos_token_id=2)) == {2}
    assert end_tokens(GenerationConfig(eos_token_id=[2, 5])) == {2, 5}
    assert end_tokens(GenerationConfig()) == set()
    assert until_end([7, 5, 2, 0], {2, 5}) == (7, 5)
    assert until_end([7, 8], {2}) == (7, 8)


def test_candidates_are_padded_to_the_most_and_the_longest():
    labels = padded_candidates([[(7, 8, 2), (2,)], [(9, 2)]])
    nothing = [-100, -100, -100]
    assert labels.tolist() == [[[7, 8, 2], [2, -100, -100]], [[9, 2, -100], nothing]]


def test_candidates_are_scored_one_a_prompt_and_in_blocks_that_memory_holds(monkeypatch):
    candidates = [[(2,)], [(3, 2), (4, 2), (5, 2)], [(6, 2), (7, 2)]]
    assert list(one_each(candidates, 1)) == [([1, 2, 0], 0), ([1, 2], 1), ([1], 2)]
    monkeypatch.setattr(decoding, "_LOGITS_AT_ONCE", 20)
    assert list(one_each(candidates, 10)) == [([1, 2], 0), ([1, 2], 1), ([1], 2), ([0], 0)]


def test_inside_a_model_knows_its_special_tokens_and_what_is_given_alone():
    backbone = bart(bart_tokenizer())
    own = backbone.generation_config
    own.min_length = 56
    with only_special_tokens(backbone, pad_token_id=3):
        inside = backbone.generation_config
        assert (inside.eos_token_id, inside.pad_token_id, inside.min_length) == (2, 3, GenerationConfig().min_length)
    assert backbone.generation_config is own
