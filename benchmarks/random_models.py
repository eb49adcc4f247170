"""Models of real sizes with random weights, and tokenizers of real vocabularies: as fast as trained ones."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BartTokenizer,
    DPRConfig,
    DPRContextEncoder,
    DPRQuestionEncoder,
)

from ragtune.sample.word_tokenizer import build_wordpiece_tokenizer

WORDS = 30_000
# Encoder (DPR) and generator (BART): width, layers (of BART each half), heads, feed-forward width, vocabulary at least.
SHAPES = {
    "tiny": ((32, 1, 2, 64, 0), (32, 1, 2, 64, 0)),
    "small": ((256, 4, 4, 1024, 0), (256, 3, 4, 1024, 0)),
    "base-large": ((768, 12, 12, 3072, 30_522), (1024, 12, 16, 4096, 50_265)),  # DPR-base and BART-large
}


def save_parts(folder: Path, shape: str, texts: Sequence[str], seed: int = 0) -> tuple[str, str, str]:
    """Folders of a question encoder, a passage encoder and a generator, each with its tokenizer.

    Args:
        folder: gets the three; what is there already is left.
        shape: of `SHAPES`.
        texts: the vocabularies are taken from.
        seed: of the weights.
    """
    parts = [folder / name for name in ("question_encoder", "passage_encoder", "generator")]
    if not all((part / "model.safetensors").exists() for part in parts):
        torch.manual_seed(seed)
        encoder, generator = SHAPES[shape]
        wordpieces = build_wordpiece_tokenizer(texts, WORDS)
        for part, model_class in zip(parts, (DPRQuestionEncoder, DPRContextEncoder), strict=False):
            model_class(_dpr_config(len(wordpieces), *encoder)).save_pretrained(part)
            wordpieces.save_pretrained(part)
        byte_pairs = _byte_pair_tokenizer(texts)
        byte_pairs.save_pretrained(parts[2])
        BartForConditionalGeneration(_bart_config(len(byte_pairs), *generator)).save_pretrained(parts[2])
    return str(parts[0]), str(parts[1]), str(parts[2])


def _dpr_config(tokens: int, width: int, layers: int, heads: int, inner: int, vocabulary: int) -> DPRConfig:
    return DPRConfig(
        vocab_size=max(tokens, vocabulary),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
        initializer_range=0.1,  # with BERT's own .02 all random texts are the same vector
    )


def _bart_config(tokens: int, width: int, layers: int, heads: int, inner: int, vocabulary: int) -> BartConfig:
    sizes = {f"{half}_{name}": value for half in ("encoder", "decoder") for name, value in _half(layers, heads, inner)}
    return BartConfig(vocab_size=max(tokens, vocabulary), d_model=width, **sizes)


def _half(layers: int, heads: int, inner: int) -> list[tuple[str, int]]:
    return [("layers", layers), ("attention_heads", heads), ("ffn_dim", inner)]


def _byte_pair_tokenizer(texts: Sequence[str]) -> BartTokenizer:
    """BART's kind, byte-level, <s> … </s>; its special tokens have the numbers that BartConfig says."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=WORDS,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return BartTokenizer(vocab=model["vocab"], merges=[tuple(merge) for merge in model["merges"]])
