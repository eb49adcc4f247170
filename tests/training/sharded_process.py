"""One of the processes that test_sharding.py starts: shards a small BART and compares it with the one that is whole."""

import copy
import sys

import torch
import torch.distributed as dist
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import nn
from transformers import BartConfig, BartForConditionalGeneration, BertConfig, BertModel, PreTrainedTokenizerFast

from ragtune.models.encoders import Encoder
from ragtune.models.generators import likelihood
from ragtune.models.generators.seq2seq import Seq2SeqGenerator
from ragtune.models.pooling import Pooling
from ragtune.training.distributed.fsdp import full_state, gathered, load_full_state, make_whole, shard, whole_encoder

SIZES = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
SIZES |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "vocab_size": 101, "max_position_embeddings": 32}
ENCODER_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
ENCODER_SIZES |= {"vocab_size": 101, "max_position_embeddings": 32}
POOLING = Pooling("sentence-transformers", ("mean",), normalizes=True, max_length=32)


class Parts(nn.Module):
    """As TrainedParts, for a closed book."""

    def __init__(self, generator, encoder):
        super().__init__()
        self.generator = generator
        self.passage_encoder = encoder.requires_grad_(False)

    def forward(self, ids):
        return -self.generator.log_likelihoods(ids, torch.ones_like(ids), ids).mean()

    def encode_questions(self, ids):
        return self.generator.backbone.get_encoder()(ids).last_hidden_state

    def ready(self):
        pass


def main(rank, folder):
    torch.set_num_threads(1)
    likelihood._TOKENS_ON_CPU = 10  # a whole generator would be called three times in one process, four in the other
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.manual_seed(0)
    encoder = Encoder(BertModel(BertConfig(**ENCODER_SIZES)).eval(), None, POOLING, "tiny")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel({"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}, unk_token="<unk>")),
        pad_token="<pad>",
        eos_token="</s>",
    )
    generator = Seq2SeqGenerator(BartForConditionalGeneration(BartConfig(**SIZES)).eval(), tokenizer)
    whole = Parts(generator, encoder)
    parts = copy.deepcopy(whole)
    shard(parts, "cpu")
    ids = torch.arange(4 * (rank + 2)).view(4, -1) + 5  # longer in the second process

    own = sum(parameter.to_local().numel() for parameter in parts.parameters())
    everything = sum(parameter.numel() for parameter in whole.parameters())
    assert 0.45 < own / everything < 0.55

    assert parts.encode_questions(ids).allclose(whole.encode_questions(ids), atol=1e-6)
    parts(ids).backward()
    whole(ids).backward()
    for (name, mine), theirs in zip(parts.generator.named_parameters(), whole.generator.parameters(), strict=True):
        dist.all_reduce(theirs.grad)
        assert mine.grad.full_tensor().allclose(theirs.grad / 2, atol=1e-6), name

    compare_in_bf16(whole, ids)

    options = {"max_new_tokens": 3 + rank, "num_beams": 2, "synced_gpus": False}
    with gathered(parts), torch.no_grad():
        for _ in range(rank + 1):  # neither waits for the other
            told = parts.generator.backbone.generate(ids, **options)
    assert told.equal(whole.generator.backbone.generate(ids, **options))
    assert parts(ids).allclose(whole(ids), atol=1e-5)  # and it is sharded again

    chance = torch.get_rng_state()
    alone = whole_encoder(parts.passage_encoder, keep=rank == 0)
    assert chance.equal(torch.get_rng_state())
    if rank == 0:  # computes without the other process
        assert alone(ids, torch.ones_like(ids)).allclose(encoder(ids, torch.ones_like(ids)), atol=1e-6)
    else:
        assert alone is None

    other = {name: value + 1 for name, value in full_state(whole).items()}
    load_full_state(parts, other)
    assert all(value.equal(other[name]) for name, value in full_state(parts).items())
    make_whole(parts)
    state = parts.generator.backbone.state_dict()
    assert all(
        value.equal(other[f"generator.backbone.{name}"])
        for name, value in state.items()
        if f"generator.backbone.{name}" in other
    )
    assert parts.generator.backbone.lm_head.weight is parts.generator.backbone.model.shared.weight
    if rank == 0:
        parts.generator.backbone.save_pretrained(f"{folder}/saved")
    dist.destroy_process_group()


def compare_in_bf16(whole, ids):
    """Weights go round in bfloat16, and are kept and summed up in float32."""
    halved = copy.deepcopy(whole)
    halved.zero_grad()
    shard(halved, "cpu", bf16=True)
    seen = set()
    halved.generator.backbone.model.encoder.layers[0].fc1.register_forward_pre_hook(
        lambda module, inputs: seen.add(module.weight.dtype)
    )
    with torch.autocast("cpu", torch.bfloat16):
        halved(ids).backward()
    assert seen == {torch.bfloat16}
    for (name, mine), theirs in zip(halved.generator.named_parameters(), whole.generator.parameters(), strict=True):
        assert mine.dtype == mine.grad.dtype == torch.float32
        difference = mine.grad.full_tensor() - theirs.grad / 2  # summed over both by now
        assert difference.norm() <= 0.1 * theirs.grad.norm() / 2 + 1e-3, name


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
