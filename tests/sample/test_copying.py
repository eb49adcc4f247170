import torch

from ragtune.sample.copying import copying_generator
from ragtune.sample.word_tokenizer import build_word_tokenizer

WORDS = [f"word{number}" for number in range(60)]
TOKENIZER = build_word_tokenizer([" ".join(WORDS)])


def attentions(text, answer="word0"):
    model = copying_generator(TOKENIZER, attn_implementation="eager").eval()
    with torch.no_grad():
        return model(**TOKENIZER(text, return_tensors="pt"), labels=TOKENIZER(answer, return_tensors="pt")["input_ids"],
                     output_attentions=True)  # fmt: skip


def test_the_first_heads_look_one_word_back_and_forward():
    for layer in attentions(" ".join(WORDS)).encoder_attentions:
        back, forward = layer[0, 0], layer[0, 1]
        assert back.diagonal(-1).min() > 0.9
        assert forward.diagonal(1).min() > 0.9


def test_the_other_heads_find_the_same_word_elsewhere():
    output = attentions(" ".join([*WORDS[:20], "word7"]))
    for head in (2, 3):
        scores = output.encoder_attentions[0][0, head, 20]
        assert scores.argmax() == 7


def test_later_layers_find_the_word_that_fills_the_blank():
    """With "word6 _ word8" behind a text, the blank looks for what stands behind word6, and before word8."""
    output = attentions(" ".join([*WORDS[:30], "word6", "_", "word8"]))
    for head in (2, 3):
        assert output.encoder_attentions[1][0, head, 31].argmax() == 7


def test_a_word_looked_at_becomes_the_word_said():
    """Cross-attention writes back unchanged what it reads: O V is the identity."""
    model = copying_generator(TOKENIZER)
    for block in model.decoder.block:
        attention = block.layer[1].EncDecAttention
        torch.testing.assert_close(attention.o.weight @ attention.v.weight, torch.eye(128), atol=1e-5, rtol=0)


def test_the_decoder_looks_for_the_word_after_its_last_one():
    output = attentions(" ".join(WORDS[:30]), answer="word11 word12 word13")
    for step, word in enumerate((11, 12, 13), 1):  # step 0 has the start token
        assert output.cross_attentions[0][0, 0, step].argmax() == word + 1


def test_all_is_said_by_the_seed():
    first, second, other = (copying_generator(TOKENIZER, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["shared.weight"], other["shared.weight"])
