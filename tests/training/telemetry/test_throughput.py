import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import BartConfig, BartForConditionalGeneration, BertConfig, EncoderDecoderConfig, EncoderDecoderModel
from world import PASSAGES

from ragtune.models.inputs import PromptBuilder
from ragtune.models.rag import RagConfig, RagModel
from ragtune.training.methods.alternate import Alternate, AlternateOptions
from ragtune.training.methods.end2end import RagEnd2End
from ragtune.training.methods.rag import Rag
from ragtune.training.telemetry.throughput import WorkCounter, peak_of
from ragtune.training.trained import TrainedParts

SIZES = {"encoder_layers": 2, "decoder_layers": 1, "encoder_ffn_dim": 64, "decoder_ffn_dim": 48}
SIZES |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
ROWS = [[0, 1, 2], [3, 4, 5]]


def bart():
    return BartForConditionalGeneration(BartConfig(vocab_size=200, d_model=32, **SIZES))


def two_berts():
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    parts = (BertConfig(vocab_size=200, **sizes) for _ in range(2))
    model = EncoderDecoderModel(EncoderDecoderConfig.from_encoder_decoder_configs(*parts))
    model.config.pad_token_id = model.config.decoder_start_token_id = 0
    return model


@pytest.fixture
def make_parts(still_world):
    def make(generator=None, method=None):
        model = RagModel.from_parts(*still_world.parts.values(), RagConfig(n_docs=3))
        model.generator.backbone = generator or model.generator.backbone
        return TrainedParts(model, method or Rag())

    return make


def batch_of(parts):
    """Two questions of equal length, three passages each, nothing padded: so nothing is computed for padding."""
    model = parts.rag
    contexts = PromptBuilder(model.generator.prompt_tokens, PASSAGES, model.config).build(["what is it ?"] * 2, ROWS)
    assert contexts["attention_mask"].all()
    questions = torch.tensor([[5, 6, 7, 8, 9]] * 2)
    return {
        "context_input_ids": contexts["input_ids"],
        "context_attention_mask": contexts["attention_mask"],
        "labels": torch.tensor([[7, 8, 1]] * 2),
        "question_input_ids": questions,
        "question_attention_mask": torch.ones_like(questions),
        "doc_embeddings": torch.randn(2, 3, 32),
    }


@pytest.mark.parametrize("generator", [None, bart, two_berts], ids=["t5", "bart", "bert2bert"])
def test_flops_are_those_that_pytorch_counts_but_for_attentions_own_products(make_parts, generator):
    parts = make_parts(generator and generator())
    inputs = batch_of(parts)
    flops = WorkCounter(parts).count(inputs).flops
    assert flops == pytest.approx(pytorchs_count(parts, inputs), rel=0.05)  # BERT has an idle pooler


def test_a_passage_encoder_that_is_trained_counts_too(make_parts):
    parts = make_parts(method=RagEnd2End())
    inputs = batch_of(parts)
    without = WorkCounter(parts).count(inputs).flops
    passages = torch.full((6, 9), 5)
    del inputs["doc_embeddings"]
    inputs |= {"passage_input_ids": passages, "passage_attention_mask": torch.ones_like(passages)}
    inputs |= {"passage_places": torch.arange(6).view(2, 3)}
    flops = WorkCounter(parts).count(inputs).flops
    assert flops > without
    assert flops == pytest.approx(pytorchs_count(parts, inputs), rel=0.05)


@pytest.mark.parametrize("passages", [False, True], ids=["question side", "both sides"])
def test_in_each_turn_of_alternate_the_part_that_learns_alone_has_a_backward_pass(make_parts, passages):
    options = AlternateOptions(alternate_every=1, train_passage_encoder=passages)
    parts = make_parts(method=Alternate(options))
    inputs = batch_of(parts) | {"doc_mask": torch.ones(2, 3, dtype=torch.bool)}
    if passages:
        texts = torch.full((6, 9), 5)
        del inputs["doc_embeddings"]
        inputs |= {"passage_input_ids": texts, "passage_attention_mask": torch.ones_like(texts)}
        inputs |= {"passage_places": torch.arange(6).view(2, 3)}
    counted = {}
    for parts.step in (0, 1):
        parts.train()
        turn = parts.method.turn(parts.step)
        counted[turn] = WorkCounter(parts).count(inputs).flops
        assert counted[turn] == pytest.approx(pytorchs_count(parts, inputs), rel=0.06)  # two idle poolers
    assert counted["lsr"] < counted["ralt"]


def test_of_candidates_those_count_that_the_generator_reads(make_parts):
    parts = make_parts()
    inputs = batch_of(parts)
    parts.rag.config.n_docs = 2
    assert WorkCounter(parts).count(inputs).tokens == inputs["context_input_ids"].numel() * 2 // 3 + 2 * 2 * 3


def pytorchs_count(parts, inputs):
    """Of linear layers."""
    with FlopCounterMode(display=False) as counter:
        parts(**inputs).loss.backward()
    by_kind = {str(kind): count for kind, count in counter.get_flop_counts()["Global"].items()}
    return sum(count for kind, count in by_kind.items() if kind in ("aten.mm", "aten.addmm"))


def test_padding_counts_neither_as_tokens_nor_as_flops(make_parts):
    parts = make_parts()
    inputs = batch_of(parts)
    plain = WorkCounter(parts).count(inputs)
    padding = {"context_attention_mask": 0, "question_attention_mask": 0, "labels": -100}
    padded = {
        name: torch.nn.functional.pad(value, (0, 9), value=padding.get(name, 0)) for name, value in inputs.items()
    }
    assert WorkCounter(parts).count(padded) == plain
    assert plain.tokens == inputs["context_input_ids"].numel() + 6 * 3


def test_a_frozen_generator_has_no_backward_pass(make_parts):
    parts = make_parts()
    inputs = {name: value for name, value in batch_of(parts).items() if "question" not in name}
    trained = WorkCounter(parts).count(inputs).flops
    parts.generator.requires_grad_(False)
    assert WorkCounter(parts).count(inputs).flops == pytest.approx(trained / 3)


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("Tesla T4", 0.0),
        ("", 0.0),
    ],
)
def test_a_devices_peak_is_known_by_its_name(name, peak):
    assert peak_of(name) == peak
