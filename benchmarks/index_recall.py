"""Claim: for vectors as DPR makes them, a knowledge base finds .97 or more of what exact search finds.

    python benchmarks/index_recall.py [--shapes 10000x128 50000x384] [--norms 1 3] [--server]

The vectors are not of length 1 and share a mean, so that the cosine between two of them is about .5; with --norms 3
the longest is three times as long as the shortest. A question is a passage's vector with noise and with a common part
of its own. Told is the share that an index finds, at k = 1, 5 and 20, of the gold passages that exact search finds
there: for Milvus' graph (HNSW, M 16, ef 160) over the vectors as they are, over the vectors without their mean, and
with DPR's additional dimension, by L2; and for `ingest_passages` with index=HNSW and index=auto. Lite, and with
--server the server inside the PyPI package milvus, 2.3.5. Questions a second are of all questions at once.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measured import report
from pymilvus import DataType, MilvusClient
from stores import VERSIONS, KnownVectors, made_up_passages

from ragtune.knowledge.exact import ExactSearcher
from ragtune.knowledge.knowledge_base import KnowledgeBase, ingest_passages
from ragtune.knowledge.milvus import collector_paused

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "knowledge"))

from dpr_vectors import dpr_vectors, questions_on

DEPTHS = (1, 5, 20)
GRAPH, EF = {"M": 16, "efConstruction": 200}, 160
QUESTIONS_AT_ONCE = 128


def with_dimension(vectors: np.ndarray) -> np.ndarray:
    """DPR's: √(φ − ‖v‖²), φ the greatest squared length; the nearest by L2 is then the best by inner product."""
    squares = (vectors.astype(np.float64) ** 2).sum(axis=1)
    return np.column_stack([vectors, np.sqrt(squares.max() - squares)]).astype(np.float32)


def variants(vectors: np.ndarray, queries: np.ndarray) -> dict[str, tuple[str, np.ndarray, np.ndarray]]:
    """By name: metric, what is stored, what is asked."""
    without_mean, zero = vectors - vectors.mean(axis=0), np.zeros((len(queries), 1), np.float32)
    return {
        "as they are": ("IP", vectors, queries),
        "without the mean": ("IP", without_mean, queries),
        "DPR's dimension": ("L2", with_dimension(vectors), np.hstack([queries, zero])),
        "both": ("L2", with_dimension(without_mean), np.hstack([queries, zero])),
    }


def graph(client: MilvusClient, metric: str, stored: np.ndarray) -> Callable[[np.ndarray, int], np.ndarray]:
    """A search, from queries and k to rows, in a collection of Milvus' own with a graph over `stored`."""
    schema, index = client.create_schema(), client.prepare_index_params()
    schema.add_field("row", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=stored.shape[1])
    index.add_index("vector", index_type="HNSW", metric_type=metric, params=GRAPH)
    client.create_collection("vectors", schema=schema, index_params=index)
    for start in range(0, len(stored), 2000):
        rows = enumerate(stored[start : start + 2000], start)
        client.insert("vectors", [{"row": row, "vector": vector} for row, vector in rows])
    client.release_collection("vectors")
    client.flush("vectors")
    (name,) = client.list_indexes("vectors")
    while int(client.describe_index("vectors", name)["pending_index_rows"]) > 0:
        time.sleep(0.2)
    client.load_collection("vectors")

    def search(queries: np.ndarray, k: int) -> np.ndarray:
        parameters = {"metric_type": metric, "params": {"ef": EF}}
        rows = np.full((len(queries), k), -1)
        for start in range(0, len(queries), QUESTIONS_AT_ONCE):
            part = queries[start : start + QUESTIONS_AT_ONCE]
            for place, hits in enumerate(client.search("vectors", part, limit=k, search_params=parameters), start):
                rows[place, : len(hits)] = [hit["row"] for hit in hits]
        return rows

    return search


def measured(search: Callable[[np.ndarray, int], np.ndarray], asked, queries, exact) -> dict[str, float]:
    search(queries[:2], 2)
    start = time.perf_counter()
    with collector_paused():
        rows = search(queries, max(DEPTHS))
    figures = {"questions_per_s": len(queries) / (time.perf_counter() - start)}
    for k in DEPTHS:
        there = (exact[:, :k] == asked[:, None]).any(axis=1)
        figures[f"found@{k}"] = float((rows[there, :k] == asked[there, None]).any(axis=1).mean())
    return figures


def of_shape(rows: int, dimension: int, norms: float, options: argparse.Namespace, uri: str, token: str) -> list[dict]:
    vectors = dpr_vectors(rows, dimension, norms, seed=options.seed)
    asked, queries = questions_on(vectors, options.questions, seed=options.seed + 1)
    exact = ExactSearcher(vectors)
    start = time.perf_counter()
    answers, _ = exact.search(queries, max(DEPTHS))
    seconds = time.perf_counter() - start
    shape: dict[str, Any] = {"milvus": "server" if uri else "Lite", "rows": rows, "dimension": dimension}
    shape |= {"norms": norms}
    found = measured(lambda queries, k: exact.search(queries, k)[0], asked, queries, answers)
    lines = [shape | {"index": "exact search"} | found | {"questions_per_s": len(queries) / seconds}]
    if not options.ours_only:
        for name, (metric, stored, questions) in variants(vectors, queries).items():
            with tempfile.TemporaryDirectory() as folder:
                client = MilvusClient(uri or f"{folder}/milvus.db", token=token)
                figures = measured(graph(client, metric, stored), asked, questions, answers)
                client.drop_collection("vectors")
                client.close()
            lines.append(shape | {"index": f"graph, {name}"} | figures)
            print(lines[-1], flush=True)
    for choice in options.choices:
        with tempfile.TemporaryDirectory() as folder:
            made_up_passages(Path(folder) / "passages.parquet", rows)
            start = time.perf_counter()
            ingest_passages(
                f"{folder}/passages.parquet",
                f"{folder}/base",
                KnownVectors(vectors),
                index=choice,
                uri=uri,
                token=token,
                name=f"dpr_{rows}_{dimension}_{norms:g}_{choice}".replace(".", "_"),
            )
            seconds = time.perf_counter() - start
            with KnowledgeBase.open(f"{folder}/base", token=token) as base:
                row_of = np.array([int(identifier[1:]) for identifier in base.passages.ids])
                figures = measured(lambda q, k, b=base, r=row_of: r[b.search(q, k).rows], asked, queries, answers)
                built = {"kind": base.manifest.built_index, "index_recall": base.manifest.index_recall}
        lines.append(shape | {"index": f"ragtune, index={choice}"} | figures | {"ingest_seconds": seconds} | built)
        print(lines[-1], flush=True)
    return lines


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=["10000x128", "8000x768", "50000x128", "50000x384"])
    parser.add_argument("--norms", nargs="+", type=float, default=[1.0, 3.0], help="longest by shortest vector")
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--choices", nargs="*", default=["HNSW", "auto"], help="index, as ingest_passages takes it")
    parser.add_argument("--ours-only", action="store_true", help="leave out what ragtune does not do")
    parser.add_argument("--server", action="store_true", help="a Milvus server too")
    options = parser.parse_args(arguments)
    shapes = [tuple(map(int, shape.split("x"))) for shape in options.shapes]
    lines = []
    for rows, dimension in shapes:
        for norms in options.norms:
            lines += of_shape(rows, dimension, norms, options, "", "")
    if options.server:
        from real_milvus import TOKEN, Server

        with tempfile.TemporaryDirectory() as folder:
            server = Server(Path(folder))
            try:
                for rows, dimension in shapes:
                    for norms in options.norms:
                        lines += of_shape(rows, dimension, norms, options, server.uri, TOKEN)
            finally:
                server.end()
    table = [("Milvus, rows x d, longest/shortest, index", *(f"found@{k}" for k in DEPTHS), "questions/s")]
    for line in lines:
        where = f"{line['milvus']}, {line['rows']:,} x {line['dimension']}, {line['norms']:g}, {line['index']}"
        if "kind" in line:
            where += f": {line['kind']}"
        shown = (f"{line[f'found@{k}']:.3f}" for k in DEPTHS)
        table.append((where, *shown, f"{line['questions_per_s']:,.0f}"))
    rounded = [{name: round(v, 4) if isinstance(v, float) else v for name, v in line.items()} for line in lines]
    report("index_recall", table, {"questions": options.questions, "seed": options.seed, "lines": rounded}, VERSIONS)


if __name__ == "__main__":
    main()
