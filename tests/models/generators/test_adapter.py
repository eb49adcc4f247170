import copy
import sys

import pytest
import torch
from safetensors import safe_open
from test_causal import ANSWERS, generator_of, labels_of, prompts_of
from tiny_parts import rag_model
from transformers import AutoModelForCausalLM, LlamaConfig

from ragtune.errors import ModelError
from ragtune.models.generators.adapter import Lora
from ragtune.models.generators.causal import CausalGenerator
from ragtune.models.generators.loading import load_generator

LORA = Lora(rank=2, alpha=4.0)


def likelihoods(generator):
    with torch.no_grad():
        return generator.log_likelihoods(**prompts_of(generator), labels=labels_of(ANSWERS))


def trained(generator, lora=LORA):
    """With an adapter that has made some steps."""
    generator.add_adapter(lora)
    generator.requires_grad_(True)
    optimizer = torch.optim.AdamW([p for p in generator.parameters() if p.requires_grad], lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        (-generator.log_likelihoods(**prompts_of(generator), labels=labels_of(ANSWERS)).mean()).backward()
        optimizer.step()
    return generator


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_an_adapter_changes_nothing_at_first_and_learns_alone(architecture):
    generator = generator_of(architecture)
    before = {name: weight.clone() for name, weight in generator.backbone.state_dict().items()}
    plain = likelihoods(generator)
    generator.add_adapter(LORA)
    torch.testing.assert_close(likelihoods(generator), plain, rtol=0, atol=0)
    generator = trained(generator_of(architecture))
    assert (likelihoods(generator) - plain).abs().max() > 0.01
    for name, weight in generator.backbone.state_dict().items():
        assert ".lora_" in name or torch.equal(weight, before[name.replace(".base_layer.", ".")]), name


def test_less_than_a_twentieth_of_the_weights_learn():
    sizes = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
    tokenizer = generator_of("llama").tokenizer
    backbone = AutoModelForCausalLM.from_config(
        LlamaConfig(vocab_size=2000, **sizes, eos_token_id=2, pad_token_id=None)
    )
    generator = CausalGenerator(backbone, tokenizer)
    generator.add_adapter(LORA)
    generator.requires_grad_(True)
    learning = sum(p.numel() for p in generator.parameters() if p.requires_grad)
    assert 0 < learning < 0.05 * sum(p.numel() for p in generator.parameters())
    generator.requires_grad_(False)
    assert not any(p.requires_grad for p in generator.parameters())


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_an_adapter_is_saved_beside_the_weights_as_they_were_and_reloads_exactly(architecture, tmp_path):
    generator = trained(generator_of(architecture))
    generator.save_pretrained(tmp_path)
    expected = likelihoods(generator)
    assert torch.equal(likelihoods(load_generator(tmp_path)), expected)
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.safetensors")}
    assert names == {"model.safetensors", "adapter/adapter_model.safetensors"}
    with safe_open(tmp_path / "model.safetensors", "pt") as saved:
        assert not [name for name in saved.keys() if "lora" in name or "base_layer" in name]  # noqa: SIM118
    plain = AutoModelForCausalLM.from_pretrained(tmp_path).state_dict()
    untouched = generator_of(architecture).backbone.state_dict()
    assert all(torch.equal(weight, untouched[name]) for name, weight in plain.items())
    assert torch.equal(likelihoods(generator), expected), "saving leaves the adapter in place"


def test_a_merged_adapter_says_the_same_and_reloads_exactly_as_an_ordinary_model(tmp_path):
    generator = trained(generator_of("llama"))
    expected, names = likelihoods(generator), generator_of("llama").backbone.state_dict().keys()
    generator.merge_adapter()
    assert generator.backbone.state_dict().keys() == names
    merged = likelihoods(generator)
    torch.testing.assert_close(merged, expected, rtol=1e-5, atol=1e-5)
    generator.save_pretrained(tmp_path)
    assert torch.equal(likelihoods(load_generator(tmp_path)), merged)
    assert not (tmp_path / "adapter").exists()


def test_an_encoder_decoder_takes_an_adapter_too(tmp_path):
    generator = rag_model("t5").generator
    inputs = generator.prompt_tokens.pad([[5, 6, 7]])
    generator.add_adapter(Lora(2, 4.0, targets="q, v"))
    generator.requires_grad_(True)
    generator.log_likelihoods(**inputs, labels=torch.tensor([[8, 1]])).sum().backward()
    learnt = {name for name, p in generator.named_parameters() if p.grad is not None}
    assert learnt and all(".lora_" in name and (".q." in name or ".v." in name) for name in learnt)
    generator.save_pretrained(tmp_path)
    assert load_generator(tmp_path).adapters


def test_a_copy_for_another_device_has_an_adapter_of_its_own():
    generator = trained(generator_of("llama"))
    expected = likelihoods(generator)
    other = copy.deepcopy(generator)
    other.merge_adapter()
    assert generator.adapters and torch.equal(likelihoods(generator), expected)
    torch.testing.assert_close(likelihoods(other), expected, rtol=1e-5, atol=1e-5)


def test_activations_may_be_computed_again_while_an_adapter_learns():
    from ragtune.models.blocks import checkpoint_activations

    gradients = []
    for again in (False, True):
        generator = generator_of("llama")
        generator.add_adapter(LORA)
        generator.requires_grad_(True)
        generator.train()
        if again:
            checkpoint_activations(generator.backbone)
        generator.log_likelihoods(**prompts_of(generator), labels=labels_of(ANSWERS)).sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in generator.parameters() if p.requires_grad]))
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-5, atol=1e-6)


def test_layers_of_other_names_are_an_error_that_names_those_there_are():
    with pytest.raises(ModelError, match=r'lora_targets="query".*all-linear.*q_proj'):
        generator_of("llama").add_adapter(Lora(2, 4.0, targets="query"))


def test_an_adapter_without_weights_or_of_another_model_is_an_error(tmp_path):
    trained(generator_of("llama")).save_pretrained(tmp_path / "llama")
    other = generator_of("gpt2")
    other.save_pretrained(tmp_path / "gpt2")
    (tmp_path / "llama" / "adapter").rename(tmp_path / "gpt2" / "adapter")
    with pytest.raises(ModelError, match="adapter/ does not fit the generator beside it"):
        load_generator(tmp_path / "gpt2")
    (tmp_path / "gpt2" / "adapter" / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"has no adapter_model\.safetensors; copy the folder whole"):
        load_generator(tmp_path / "gpt2")


def test_a_missing_peft_is_an_error_that_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ModelError, match=r"lora_rank=2 needs peft.*pip install 'ragtune\[lora\]'"):
        generator_of("llama").add_adapter(LORA)
