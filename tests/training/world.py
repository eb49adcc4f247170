"""A world of 60 passages and 60 questions, and models that are trained on it in seconds."""

import dataclasses
import json

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tiny_models import save_word_t5
from tokenizers import pre_tokenizers
from transformers import (  # type: ignore[attr-defined]  # BertTokenizerFast is made at run time
    AutoTokenizer,
    BertConfig,
    BertModel,
    BertTokenizerFast,
)

from ragtune.knowledge.passages import Passage
from ragtune.models.encoders import Encoder
from ragtune.models.pooling import Pooling
from ragtune.questions.tokenization import tokenize_pairs

_SYLLABLES = ("ba", "do", "ki", "lu", "me", "no", "ra", "si", "tu", "ve")
COUNTRIES = [f"{a}{b}land" for a in _SYLLABLES for b in _SYLLABLES[:6]]
CITIES = [f"{b}{a}ville" for a in _SYLLABLES for b in _SYLLABLES[:6]]
QUESTION_WORDS = ("what", "is", "the", "capital", "of", "?")
PASSAGES = [
    Passage(f"p{n}", country, f"the capital of {country} is {city} .", (f"p{n}",))
    for n, (country, city) in enumerate(zip(COUNTRIES, CITIES, strict=True))
]


@dataclasses.dataclass(frozen=True)
class World:
    """The paths of everything."""

    encoder: str
    generator: str
    pairs: str
    passages_file: str

    @property
    def parts(self):
        return {"question_encoder": self.encoder, "passage_encoder": self.encoder, "generator": self.generator}


def make_world(folder, dropout=0.1):
    words = sorted({*COUNTRIES, *CITIES, *QUESTION_WORDS, ".", "/", "//"})
    save_encoder(folder / "encoder", words, dropout)
    torch.manual_seed(0)
    save_word_t5(folder / "generator", words, pre_tokenizers.WhitespaceSplit(), d_ff=64, dropout_rate=0.0)
    table = pa.Table.from_pylist([dataclasses.asdict(passage) for passage in PASSAGES])
    pq.write_table(table, folder / "passages.parquet")
    write_pairs(folder, folder / "encoder", folder / "generator")
    return World(*(str(folder / name) for name in ("encoder", "generator", "pairs", "passages.parquet")))


def ingest(world, folder):
    from ragtune.knowledge.knowledge_base import ingest_passages

    ingest_passages(world.passages_file, folder, Encoder.from_pretrained(world.encoder, "passage"), index="FLAT")
    return str(folder)


def save_encoder(folder, words, dropout=0.1, seed=0):
    torch.manual_seed(seed)
    folder.mkdir(parents=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    tokenizer = BertTokenizerFast.from_pretrained(folder)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    sizes |= {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    config = BertConfig(vocab_size=len(vocabulary), max_position_embeddings=64, initializer_range=0.3, **sizes)
    pooling = Pooling("sentence-transformers", ("mean",), normalizes=True, max_length=64)
    Encoder(BertModel(config), tokenizer, pooling, str(folder)).save_pretrained(folder)


def write_pairs(folder, encoder, generator):
    for name, numbers in (("train", range(48)), ("validation", range(48, 60))):
        rows = [
            {
                "id": f"q{n}",
                "question": f"what is the capital of {COUNTRIES[n]} ?",
                "answers": [CITIES[n]],
                "gold_ids": [f"p{n}"],
                "title": "",
                "source": f"world:{n}",
            }
            for n in numbers
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tokenize_pairs(
        folder / "train.jsonl",
        folder / "validation.jsonl",
        AutoTokenizer.from_pretrained(encoder),
        AutoTokenizer.from_pretrained(generator),
        folder / "pairs",
    )
