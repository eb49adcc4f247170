"""Claim: 40 times the questions a second of Feast's FeastRAGRetriever on the same store, at recall@10 of .99 or more.

    python benchmarks/retrieval.py [--rows 50000]

Both sides ask the same Milvus Lite database in one process that has opened it afresh, its HNSW index read from disk;
they take turns.
"""

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from measured import PAIRS, in_turn, ratio, report
from stores import VERSIONS, KnownVectors, index_of, made_up_passages, made_up_vectors, stock_store

FEATURES = ("id", "title", "text", "embedding")


def build(folder: Path, vectors: np.ndarray) -> None:
    from ragtune.knowledge.knowledge_base import ingest_passages

    made_up_passages(folder / "passages.parquet", len(vectors))
    ingest_passages(folder / "passages.parquet", folder / "base", KnownVectors(vectors))


def feast_retriever(folder: Path, dimension: int, **parts):
    """FeastRAGRetriever on the base in `folder`, with its real field names; `parts` for the parts that generate."""
    import torch
    from feast.rag_retriever import FeastIndex, FeastRAGRetriever
    from transformers import BartConfig, DPRConfig, RagConfig

    base = folder / "base" / "kb_v1"
    store, view = stock_store(folder / "stock", base / "milvus.db", "passages", dimension, index_of(base))
    parts = {
        "question_encoder_tokenizer": None,
        "question_encoder": torch.nn.Identity(),
        "generator_tokenizer": None,
        "generator_model": torch.nn.Identity(),
        "config": RagConfig.from_question_encoder_generator_configs(DPRConfig(), BartConfig()),
        **parts,
    }
    return FeastRAGRetriever(
        feast_repo_path=str(store.repo_path),
        feature_view=view,
        features=[f"kb_v1:{name}" for name in FEATURES],
        search_type="vector",
        index=FeastIndex(),
        id_field="id",
        text_field="text",
        **parts,
    )


def per_second(work: Callable[[], object], questions: int) -> float:
    start = time.perf_counter()
    work()
    return questions / (time.perf_counter() - start)


def measure(
    folder: Path, vectors: np.ndarray, queries: np.ndarray, k: int, one_by_one: int, pairs: int
) -> dict[str, Any]:
    from ragtune.knowledge.knowledge_base import KnowledgeBase

    start = time.perf_counter()
    with KnowledgeBase.open(folder / "base") as base:
        opened = time.perf_counter() - start
        retriever = feast_retriever(folder, vectors.shape[1])
        retriever.retrieve(queries[:2], k)  # opens its store
        base.search(queries[:2], k)
        few = queries[:one_by_one]
        sides = {
            "feast_rag_retriever_per_s": partial(per_second, lambda: retriever.retrieve(few, k), one_by_one),
            "ours_at_once_per_s": partial(per_second, lambda: base.search(queries, k), len(queries)),
            "ours_16_at_once_per_s": partial(
                per_second, lambda: [base.search(queries[start : start + 16], k) for start in range(0, 256, 16)], 256
            ),
            "ours_one_by_one_per_s": partial(
                per_second, lambda: [base.search(query[None], k) for query in few], one_by_one
            ),
        }
        runs = in_turn(sides, pairs)
        figures: dict[str, Any] = {"open_seconds": opened} | {name: median(rates) for name, rates in runs.items()}
        found = base.search(queries, k)
    exact = np.argpartition(-(queries @ vectors.T), k, axis=1)[:, :k]
    rows = [int(identifier[1:]) for identifier in base.passages.ids]
    hits = [len(set(exact[i]) & {rows[row] for row in found.rows[i]}) for i in range(len(queries))]
    figures[f"recall@{k}"] = sum(hits) / (k * len(queries))
    faster = ratio(runs["ours_at_once_per_s"], runs["feast_rag_retriever_per_s"])
    return figures | faster.figures("times_faster") | {"told": str(faster)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--queries", type=int, default=2048)
    parser.add_argument("--one-by-one", type=int, default=64, help="queries for the slow side")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="how often all are measured, in turn")
    parser.add_argument("-k", type=int, default=10)
    options = parser.parse_args()

    vectors = made_up_vectors(options.rows, options.dimension)
    queries = made_up_vectors(options.queries, options.dimension, seed=2)
    with tempfile.TemporaryDirectory() as folder:
        builder = multiprocessing.get_context("spawn").Process(target=build, args=(Path(folder), vectors))
        builder.start()
        builder.join()
        figures = measure(Path(folder), vectors, queries, options.k, options.one_by_one, options.pairs)
    told = figures.pop("told")
    table = [
        ("way of asking", "questions/s"),
        ("Feast's FeastRAGRetriever", f"{figures['feast_rag_retriever_per_s']:,.1f}"),
        ("ragtune, one by one", f"{figures['ours_one_by_one_per_s']:,.1f}"),
        ("ragtune, 16 at once", f"{figures['ours_16_at_once_per_s']:,.1f}"),
        ("ragtune, all at once", f"{figures['ours_at_once_per_s']:,.1f}"),
        ("times faster", told),
        (f"recall@{options.k} against exact search", f"{figures[f'recall@{options.k}']:.4f}"),
    ]
    figures = {name: value if isinstance(value, list) else round(value, 4) for name, value in figures.items()}
    report("retrieval", table, {**vars(options), "vectors": "made up", **figures}, VERSIONS)


if __name__ == "__main__":
    main()
