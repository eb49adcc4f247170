"""A tiny sentence encoder, warmed up on passages alone by the inverse cloze task: which passage is a sentence from?

Source: Lee et al. 2019, https://arxiv.org/abs/1906.00300, section 4.
"""

import random
import re
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import BertConfig, BertModel, PreTrainedTokenizerBase

from ragtune.errors import KnowledgeBaseError
from ragtune.knowledge.passages import Passage
from ragtune.models.encoders import Encoder
from ragtune.models.pooling import Pooling

TEMPERATURE = 0.05
KEPT_SHARE = 0.1  # of the sentences that stay in their passage too, so that the same words are learned to match
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def tiny_encoder(tokenizer: PreTrainedTokenizerBase, seed: int = 0, **options: int) -> Encoder:
    """An untrained BERT of one layer with mean pooling and unit vectors.

    Args:
        tokenizer: `build_wordpiece_tokenizer`.
        seed: random seed of the weights.
        options: BertConfig's own, over the defaults here.
    """
    torch.manual_seed(seed)
    config = BertConfig(
        **{
            "vocab_size": len(tokenizer),
            "hidden_size": 128,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "intermediate_size": 256,
            "max_position_embeddings": 256,
            "type_vocab_size": 1,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "pad_token_id": tokenizer.pad_token_id,
            **options,
        }
    )
    pooling = Pooling("sentence-transformers", ("mean",), normalizes=True, max_length=config.max_position_embeddings)
    return Encoder(BertModel(config), tokenizer, pooling, "tiny")


def inverse_cloze_batches(
    passages: Sequence[Passage], size: int, seed: int = 0
) -> Iterator[tuple[list[str], list[str]]]:
    """Endless batches of sentences, and of their passages without them ("title. the other sentences").

    No passage stands twice in a batch; passages of one sentence are left out.

    Raises:
        KnowledgeBaseError: fewer than two passages have two sentences.
    """
    chance = random.Random(seed)
    pages = [(passage.title, SENTENCE_END.split(passage.text)) for passage in passages]
    pages = [page for page in pages if len(page[1]) > 1]
    if len(pages) < 2:
        raise KnowledgeBaseError("the inverse cloze task needs at least two passages of two sentences; give more text")
    size = min(size, len(pages))
    while True:
        chance.shuffle(pages)
        for start in range(0, len(pages) - size + 1, size):
            pairs = [_take_out(*page, chance) for page in pages[start : start + size]]
            yield [sentence for sentence, _ in pairs], [rest for _, rest in pairs]


def inverse_cloze_loss(encoder: Encoder, sentences: Sequence[str], passages: Sequence[str]) -> Tensor:
    """InfoNCE within the batch, -mean_i log softmax(s_i·p / TEMPERATURE)_i: every sentence against every passage."""
    scores = _embed(encoder, sentences) @ _embed(encoder, passages).T / TEMPERATURE
    return F.cross_entropy(scores, torch.arange(len(scores)))


def _take_out(title: str, sentences: list[str], chance: random.Random) -> tuple[str, str]:
    at = chance.randrange(len(sentences))
    rest = sentences if chance.random() < KEPT_SHARE else sentences[:at] + sentences[at + 1 :]
    return sentences[at], f"{title}. {' '.join(rest)}"


def _embed(encoder: Encoder, texts: Sequence[str]) -> Tensor:
    inputs = encoder.tokenizer(
        list(texts), padding=True, truncation=True, max_length=encoder.pooling.max_length, return_tensors="pt"
    )
    return encoder(inputs["input_ids"], inputs["attention_mask"])
