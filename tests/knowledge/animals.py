"""A small corpus, and an encoder that really embeds it."""

import hashlib

import numpy as np
import pyarrow as pa

from ragtune.knowledge.passages import Passages

ANIMALS = ["otter", "heron", "lynx", "beetle", "salmon", "viper", "bison", "moth", "crane", "badger"]
PLACES = ["river", "forest", "marsh", "desert", "harbour", "meadow", "glacier", "island", "valley", "canyon"]
FOODS = ["berries", "fish", "grass", "nectar", "roots", "seeds", "insects", "bark", "eggs", "moss"]


class WordEncoder:
    """Really embeds: the sum of fixed random vectors, one a word, at length 1. Equal in every process."""

    precision = "float32"

    def __init__(self, dimension=32, seed=0):
        self.dimension = dimension
        self.name = f"words-{seed}"
        self.fingerprint = hashlib.sha256(f"{dimension} {seed}".encode()).hexdigest()
        self.table = np.random.default_rng(seed).normal(size=(4096, dimension)).astype(np.float32)
        self.embedded = 0

    def encode(self, texts):
        words = [[int(hashlib.md5(word.encode()).hexdigest(), 16) % 4096 for word in text.split()] for text in texts]
        vectors = np.stack([self.table[line].sum(axis=0) for line in words])
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def encode_passages(self, passages, **options):
        self.embedded += len(passages)
        return self.encode([f"{passage.title} {passage.text}" for passage in passages])


def animal_texts(count):
    """id → text, all different."""
    return {
        f"w{number}": f"the {ANIMALS[number % 10]} number {number} of the {PLACES[number // 10 % 10]} eats "
        f"{FOODS[number // 100 % 10]}"
        for number in range(count)
    }


def write_passages(path, texts):
    columns = {"id": list(texts), "title": ["animals"] * len(texts), "text": list(texts.values())}
    Passages(pa.table(columns)).save(path)
    return path


def exact_rows(encoder, passages, queries, k):
    """Rows of the k best passages by inner product, (B, k), by brute force."""
    scores = queries @ encoder.encode_passages(list(passages)).T
    return np.argsort(-scores, axis=1)[:, :k]
