import pytest
import torch
from tiny_parts import ENCODER_SIZES, bert, bert_tokenizer, dpr_encoder
from transformers import MPNetConfig, MPNetModel

from ragtune.models.blocks import checkpoint_activations, transformer_blocks


def mpnet():
    return MPNetModel(MPNetConfig(vocab_size=200, hidden_dropout_prob=0.0, **ENCODER_SIZES)).eval()


BACKBONES = {
    "dpr": lambda: dpr_encoder().backbone,
    "mpnet": mpnet,
    "bert": lambda: bert(bert_tokenizer()),
}
IDS = torch.tensor([[2, 7, 9, 3], [2, 8, 3, 3]])


def gradients(backbone):
    backbone.zero_grad()
    backbone(input_ids=IDS, attention_mask=torch.ones_like(IDS))[0].square().sum().backward()
    return {name: p.grad.clone() for name, p in backbone.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", BACKBONES)
def test_every_block_is_computed_twice_and_the_gradients_stay(kind):
    backbone = BACKBONES[kind]().train()
    backbone.requires_grad_(True)
    for module in backbone.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    blocks, computed = list(transformer_blocks(backbone)), []
    assert len(blocks) == 2
    for block in blocks:  # what stands in the block is called as often as the block is computed
        next(block.children()).register_forward_pre_hook(lambda module, inputs: computed.append(module))
    expected = gradients(backbone)
    assert len(computed) == 2
    checkpoint_activations(backbone)
    computed.clear()
    found = gradients(backbone)
    assert len(computed) == 4
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, msg=name)


@pytest.mark.parametrize("kind", BACKBONES)
def test_nothing_is_computed_twice_in_evaluation_mode(kind):
    backbone = BACKBONES[kind]().eval()
    checkpoint_activations(backbone)
    computed = []
    for block in transformer_blocks(backbone):
        next(block.children()).register_forward_pre_hook(lambda module, inputs: computed.append(module))
    gradients(backbone.requires_grad_(True))
    assert len(computed) == 2
