import pytest
import torch
from tiny_parts import KINDS, QUESTIONS, rag_model, word_tokenizer

from ragtune.models.generators.base import PromptTokens


def test_prompts_are_padded_on_the_side_that_the_family_wants():
    tokenizer = word_tokenizer()  # pads with 0
    behind = PromptTokens(tokenizer, [8], [1]).pad([[5, 6], [7]])
    assert behind["input_ids"].tolist() == [[8, 5, 6, 1], [8, 7, 1, 0]]
    assert behind["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    before = PromptTokens(tokenizer, [8], [1], pads_left=True).pad([[5, 6], [7]])
    assert before["input_ids"].tolist() == [[8, 5, 6, 1], [0, 8, 7, 1]]
    assert before["attention_mask"].tolist() == [[1, 1, 1, 1], [0, 1, 1, 1]]


@pytest.mark.parametrize("kind", KINDS)
def test_candidates_are_scored_as_their_log_likelihoods_say(kind):
    """Each prompt's own candidates, of unequal number and length."""
    generator = rag_model(kind).generator
    tokens = generator.prompt_tokens
    prompts = tokens.pad(generator.tokenizer(QUESTIONS[:2], add_special_tokens=False)["input_ids"])
    end = generator.tokenizer.eos_token_id
    candidates = [[(9, 10, end), (11, end)], [(12, end)]]
    with torch.inference_mode():
        scored = generator.score(generator.read(**prompts), candidates)
        assert scored.shape == (2, 2, 3)
        for prompt, found in enumerate(candidates):
            for number, candidate in enumerate(found):
                own = {name: tensor[prompt : prompt + 1] for name, tensor in prompts.items()}
                expected = generator.log_likelihoods(**own, labels=torch.tensor([candidate]))[0]
                torch.testing.assert_close(scored[prompt, number, : len(candidate)], expected, rtol=1e-5, atol=1e-5)
                assert not scored[prompt, number, len(candidate) :].any()
    assert not scored[1, 1].any()
