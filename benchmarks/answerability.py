"""Claim: which questions can be answered is found 40 times faster than by asking Feast one question at a time.

    python benchmarks/answerability.py --passages passages.parquet --questions train.jsonl [--encoder folder]

With --encoder the vectors are that encoder's, kept in --embedding-cache. Without, passages and questions get made-up
vectors of 384 dimensions: as fast to search, but what is then answerable says nothing. Encoding is not timed.
--rows 50000 adds made-up passages until the base has that many. Milvus Lite looks at every row before each call, which
costs Feast's way the more the larger the base is.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
from measured import PAIRS, in_turn, ratio, report
from stores import VERSIONS, KnownVectors, index_of, made_up_passages, made_up_vectors, stock_store

from ragtune.knowledge.embedding import EmbeddingCache, embed_missing
from ragtune.knowledge.knowledge_base import KnowledgeBase, ingest_passages
from ragtune.knowledge.passages import Passages
from ragtune.models.encoders import Encoder
from ragtune.questions.answerability import split_by_answerability
from ragtune.questions.normalization import contains_answer
from ragtune.questions.question import Question, read_kept_questions


class Known:
    """A question encoder that was asked before."""

    def __init__(self, questions: list[Question], vectors: np.ndarray):
        self.vectors = dict(zip((question.question for question in questions), vectors, strict=True))

    def encode(self, texts: list[str]) -> np.ndarray:
        return np.stack([self.vectors[text] for text in texts])


class ByRow(KnownVectors):
    """Vectors by row, whatever the passages are called."""

    name = "vectors by row"

    def __init__(self, passages: Passages, vectors: np.ndarray):
        super().__init__(vectors)
        self.rows = {identifier: row for row, identifier in enumerate(passages.ids)}

    def encode_passages(self, passages, **options) -> np.ndarray:
        return self.vectors[[self.rows[passage.id] for passage in passages]]


def cached_vectors(passages: Passages, encoder: Encoder, folder: str) -> np.ndarray:
    with tempfile.TemporaryDirectory() as own:
        cache = EmbeddingCache(folder or own, encoder.fingerprint, encoder.dimension, encoder.precision)
        embed_missing(passages, encoder, cache)
        return cache.vectors(passages.content_hashes)[:]


def filled_up(passages: Passages, vectors: np.ndarray, rows: int, folder: Path) -> tuple[Passages, np.ndarray]:
    """With made-up passages behind the real ones, `rows` in all; their vectors lie half-way between two real ones."""
    missing = rows - len(passages)
    if missing <= 0:
        return passages, vectors
    made_up = made_up_passages(folder / "made_up.parquet", missing)
    Passages(pa.concat_tables([passages.table, made_up.table])).save(folder / "passages.parquet")
    between = vectors[np.random.default_rng(3).integers(0, len(vectors), (missing, 2))].sum(axis=1)
    between /= np.linalg.norm(between, axis=1, keepdims=True)
    return Passages.open(folder / "passages.parquet"), np.concatenate([vectors, between])


def one_by_one(store, questions: list[Question], encoder: Known, k: int) -> int:
    """As Feast's own demonstrations do it; how many are answerable."""
    features = [f"kb_v1:{name}" for name in ("id", "title", "text", "embedding")]
    answerable = 0
    for question in questions:
        (vector,) = encoder.encode([question.question])
        found = store.retrieve_online_documents_v2(
            features=features, query=vector.tolist(), top_k=k, distance_metric="IP"
        )
        answerable += any(contains_answer(text, question.answers) for text in found.to_dict()["text"])
    return answerable


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=Path, required=True)
    parser.add_argument("--questions", type=Path, required=True)
    parser.add_argument("--encoder", default="", help="folder of a sentence-transformers or DPR encoder")
    parser.add_argument("--embedding-cache", default="", help="folder that keeps its vectors")
    parser.add_argument("--rows", type=int, default=0, help="at least so many passages, made-up ones behind the real")
    parser.add_argument("--one-by-one", type=int, default=50, help="questions for the slow side")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="how often both are measured, in turn")
    parser.add_argument("-k", type=int, default=10)
    options = parser.parse_args()

    passages = Passages.open(options.passages)
    questions = list(read_kept_questions(options.questions))
    if options.encoder:
        encoder = Encoder.from_pretrained(options.encoder, role="question")
        known = Known(questions, encoder.encode([question.question for question in questions]))
        vectors = cached_vectors(
            passages, Encoder.from_pretrained(options.encoder, role="passage"), options.embedding_cache
        )
    else:
        known = Known(questions, made_up_vectors(len(questions), 384, seed=2))
        vectors = made_up_vectors(len(passages), 384)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        passages, vectors = filled_up(passages, vectors, options.rows, folder)
        manifest = ingest_passages(passages.place, folder / "base", ByRow(passages, vectors))
        with KnowledgeBase.open(folder / "base") as base:
            version = folder / "base" / manifest.version
            index = index_of(version)
            store, _ = stock_store(folder / "stock", version / "milvus.db", "passages", manifest.dimension, index)
            one_by_one(store, questions[:2], known, options.k)  # connects
            counts: dict[str, float] = {}

            def feasts() -> float:
                start = time.perf_counter()
                one_by_one(store, questions[: options.one_by_one], known, options.k)
                return options.one_by_one / (time.perf_counter() - start)

            def ours() -> float:
                start = time.perf_counter()
                files = folder / "answerable.jsonl", folder / "unanswerable.jsonl"
                counts.update(split_by_answerability(options.questions, known, base, *files, options.k))
                return len(questions) / (time.perf_counter() - start)

            runs = in_turn({"feast": feasts, "ours": ours}, options.pairs)
    feast_rate, our_rate = (median(rates) for rates in runs.values())
    faster = ratio(runs["ours"], runs["feast"])
    rows = [
        ("search and match", "questions/s"),
        (f"Feast, one by one ({options.one_by_one} questions)", f"{feast_rate:,.1f}"),
        (f"ragtune ({len(questions):,} questions)", f"{our_rate:,.1f}"),
        ("times faster", str(faster)),
        ("answerable", f"{counts['answerable_fraction']:.3f}"),
    ]
    figures = {
        "passages": len(passages),
        "questions": len(questions),
        "pairs": options.pairs,
        "k": options.k,
        "vectors": Path(options.encoder).name if options.encoder else "made up",
        "feast_one_by_one_per_s": round(feast_rate, 2),
        "ours_per_s": round(our_rate, 1),
        **faster.figures("times_faster"),
        **({"answerable_fraction": round(float(counts["answerable_fraction"]), 4)} if options.encoder else {}),
    }
    name = f"answerability-{options.rows}" if options.rows else "answerability"
    report(name, rows, figures, VERSIONS)


if __name__ == "__main__":
    main()
