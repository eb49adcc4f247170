import pytest
import torch
from test_rag import ROWS, batch_of
from tiny_parts import SEQ2SEQ_KINDS, generator_and_tokenizer, rag_model

from ragtune.errors import ModelError
from ragtune.models.generators import likelihood
from ragtune.models.generators.seq2seq import Seq2SeqGenerator
from ragtune.models.losses import token_log_likelihoods

CONTEXTS = ROWS.numel()


def inputs_of(model):
    batch = batch_of(model)
    labels = batch["labels"].repeat_interleave(3, dim=0)
    contexts = (batch["context_input_ids"], batch["context_attention_mask"])
    return *contexts, labels


def at_once(model, input_ids, attention_mask, labels):
    """The plain way: all contexts in one pass, logits of all positions."""
    logits = model.generator.backbone(
        input_ids=input_ids,
        attention_mask=attention_mask,
        decoder_input_ids=model.generator.decoder_inputs(labels),
    ).logits
    return token_log_likelihoods(logits, labels)


def gradients(model, log_likelihoods):
    model.zero_grad()
    log_likelihoods.sum().backward()
    return torch.cat([p.grad.flatten() for p in model.generator.parameters() if p.grad is not None])


@pytest.mark.parametrize("kind", SEQ2SEQ_KINDS)
@pytest.mark.parametrize("tokens", [1, 70, 10_000], ids=["one-by-one", "in-groups", "at-once"])
def test_groups_of_like_length_change_neither_likelihoods_nor_gradients(kind, tokens, monkeypatch):
    monkeypatch.setattr(likelihood, "_TOKENS_ON_CPU", tokens)
    model = rag_model(kind).double()
    inputs = inputs_of(model)
    found, expected = model.generator.log_likelihoods(*inputs), at_once(model, *inputs)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(gradients(model, found), gradients(model, expected), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("kind", SEQ2SEQ_KINDS)
def test_the_output_layer_sees_only_positions_with_a_label(kind):
    model = rag_model(kind)
    inputs = inputs_of(model)
    seen = []
    layer = model.generator.backbone.get_output_embeddings()
    hook = layer.register_forward_hook(lambda module, args, output: seen.append(output.shape[:-1].numel()))
    model.generator.log_likelihoods(*inputs)
    hook.remove()
    assert seen == [int((inputs[-1] != -100).sum())]


def test_a_group_is_no_longer_than_its_longest_context(monkeypatch):
    monkeypatch.setattr(likelihood, "_TOKENS_ON_CPU", 70)
    model = rag_model("bart")
    inputs = inputs_of(model)
    shapes = []
    encoder = model.generator.backbone.get_encoder()
    hook = encoder.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    model.generator.log_likelihoods(*inputs)
    hook.remove()
    lengths = sorted(inputs[1].sum(dim=1).tolist(), reverse=True)
    assert len(shapes) > 1
    assert sum(rows for rows, _ in shapes) == CONTEXTS
    assert shapes[0][1] == lengths[0]
    assert sum(rows * length for rows, length in shapes) < CONTEXTS * lengths[0]


def test_an_output_layer_that_wants_all_positions_gets_them():
    """As ProphetNet's, whose states have one dimension more."""
    model = rag_model("bart")
    inputs = inputs_of(model)
    expected = at_once(model, *inputs)

    class Unusual(torch.nn.Linear):
        def forward(self, states):
            return super().forward(states.squeeze(1))

    layer = model.generator.backbone.lm_head
    unusual = Unusual(layer.in_features, layer.out_features, bias=False)
    unusual.weight = layer.weight
    model.generator.backbone.lm_head = unusual
    model.generator.backbone.model.decoder.register_forward_hook(
        lambda module, args, output: setattr(output, "last_hidden_state", output.last_hidden_state.unsqueeze(1))
    )
    torch.testing.assert_close(model.generator.log_likelihoods(*inputs), expected)


@pytest.mark.parametrize("kind", ["bart", "t5"])
def test_anothers_tokenizer_is_an_error(kind):
    generator, _ = generator_and_tokenizer(kind)
    other = generator_and_tokenizer("t5" if kind == "bart" else "bart")[1]
    with pytest.raises(ModelError, match="tokenizer that the generator was trained with"):
        Seq2SeqGenerator(generator, other)


def test_a_generator_that_cannot_begin_an_answer_is_an_error():
    generator, tokenizer = generator_and_tokenizer("encoder-decoder")
    generator.config.decoder_start_token_id = None
    with pytest.raises(ModelError, match="decoder_start_token_id"):
        Seq2SeqGenerator(generator, tokenizer)
