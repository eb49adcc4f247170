import pytest
import torch
from test_rag import ROWS, batch_of
from tiny_parts import KINDS, rag_model

from ragtune.models import likelihood
from ragtune.models.likelihood import label_log_likelihoods
from ragtune.models.losses import token_log_likelihoods

CONTEXTS = ROWS.numel()


def inputs_of(model):
    batch = batch_of(model)
    labels = batch["labels"].repeat_interleave(3, dim=0)
    contexts = (batch["context_input_ids"], batch["context_attention_mask"])
    return *contexts, model.decoder_inputs(labels), labels


def at_once(model, input_ids, attention_mask, decoder_input_ids, labels):
    """The plain way: all contexts in one pass, logits of all positions."""
    logits = model.generator(
        input_ids=input_ids, attention_mask=attention_mask, decoder_input_ids=decoder_input_ids
    ).logits
    return token_log_likelihoods(logits, labels)


def gradients(model, log_likelihoods):
    model.zero_grad()
    log_likelihoods.sum().backward()
    return torch.cat([p.grad.flatten() for p in model.generator.parameters() if p.grad is not None])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tokens", [1, 70, 10_000], ids=["one-by-one", "in-groups", "at-once"])
def test_groups_of_like_length_change_neither_likelihoods_nor_gradients(kind, tokens, monkeypatch):
    monkeypatch.setattr(likelihood, "_TOKENS_ON_CPU", tokens)
    model = rag_model(kind).double()
    inputs = inputs_of(model)
    found, expected = label_log_likelihoods(model.generator, *inputs), at_once(model, *inputs)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(gradients(model, found), gradients(model, expected), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_the_output_layer_sees_only_positions_with_a_label(kind):
    model = rag_model(kind)
    inputs = inputs_of(model)
    seen = []
    layer = model.generator.get_output_embeddings()
    hook = layer.register_forward_hook(lambda module, args, output: seen.append(output.shape[:-1].numel()))
    label_log_likelihoods(model.generator, *inputs)
    hook.remove()
    assert seen == [int((inputs[-1] != -100).sum())]


def test_a_group_is_no_longer_than_its_longest_context(monkeypatch):
    monkeypatch.setattr(likelihood, "_TOKENS_ON_CPU", 70)
    model = rag_model("bart")
    inputs = inputs_of(model)
    shapes = []
    encoder = model.generator.get_encoder()
    hook = encoder.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    label_log_likelihoods(model.generator, *inputs)
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

    layer = model.generator.lm_head
    unusual = Unusual(layer.in_features, layer.out_features, bias=False)
    unusual.weight = layer.weight
    model.generator.lm_head = unusual
    model.generator.model.decoder.register_forward_hook(
        lambda module, args, output: setattr(output, "last_hidden_state", output.last_hidden_state.unsqueeze(1))
    )
    torch.testing.assert_close(label_log_likelihoods(model.generator, *inputs), expected)
