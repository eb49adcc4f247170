"""Claims: writing is no slower than Feast's own write_to_online_store; an unchanged corpus takes a 20th of the time.

    python benchmarks/ingestion.py [--rows 50000] [--written 20000]

No encoder runs: vectors are known before, so that what is left is the work of the knowledge base itself, and the second
claim is made as hard as it can be.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import pyarrow as pa
from measured import report
from stores import VERSIONS, KnownVectors, index_of, made_up_passages, made_up_vectors, stock_store

from ragtune.knowledge.feature_repo import (
    apply_view,
    batched_store,
    open_feature_store,
    passages_view,
    write_feature_repo,
)
from ragtune.knowledge.hashes import hex_digits
from ragtune.knowledge.index import GRAPH
from ragtune.knowledge.knowledge_base import ingest_passages
from ragtune.knowledge.passages import Passages

CHUNK_ROWS = 5000


def frames(passages: Passages, vectors: np.ndarray) -> list[pd.DataFrame]:
    """The rows to write, in chunks; made before the clock starts."""
    parts = []
    for start in range(0, len(passages), CHUNK_ROWS):
        frame = passages.table.slice(start, CHUNK_ROWS).select(["id", "title", "text"]).to_pandas()
        frame["content_hash"] = hex_digits(passages.content_hashes[start : start + CHUNK_ROWS])
        frame["embedding"] = list(vectors[start : start + CHUNK_ROWS])
        frame["event_timestamp"] = pd.Timestamp.now("UTC")
        parts.append(frame)
    return parts


def seconds_to_write(store, parts: list[pd.DataFrame]) -> float:
    start = time.perf_counter()
    for frame in parts:
        store.write_to_online_store("kb_v1", df=frame)
    return time.perf_counter() - start


def write_with_ours(folder: Path, dimension: int, parts: list[pd.DataFrame]) -> float:
    write_feature_repo(folder, "ours", "", GRAPH)
    store = open_feature_store(folder)
    apply_view(store, folder, passages_view("kb_v1", dimension))
    seconds = seconds_to_write(store, parts)
    batched_store(store).disconnect()
    return seconds


def write_with_feast(folder: Path, dimension: int, parts: list[pd.DataFrame], index: dict) -> float:
    store, _ = stock_store(folder, folder / "milvus.db", "feast", dimension, index)
    return seconds_to_write(store, [frame.drop(columns="content_hash") for frame in parts])


def seconds(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def write_paths(folder: Path, passages: Passages, vectors: np.ndarray, repeats: int) -> tuple[float, float]:
    """Rows a second, ours and Feast's; in turn, so that both see the same machine."""
    parts, dimension = frames(passages, vectors), vectors.shape[1]
    write_feature_repo(folder / "index", "index", "", GRAPH)
    ours, feast = [], []
    for number in range(repeats):
        ours.append(write_with_ours(folder / f"ours{number}", dimension, parts))
        feast.append(write_with_feast(folder / f"feast{number}", dimension, parts, index_of(folder / "index")))
    return len(passages) / median(ours), len(passages) / median(feast)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000, help="ingested twice, then with changes")
    parser.add_argument("--written", type=int, default=20_000, help="rows for the comparison of the write paths")
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()

    vectors = made_up_vectors(max(options.rows, options.written), options.dimension)
    encoder = KnownVectors(vectors)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        some = made_up_passages(folder / "some.parquet", options.written)
        ours, feast = write_paths(folder, some, vectors[: options.written], options.repeats)
        passages = made_up_passages(folder / "passages.parquet", options.rows)
        texts = passages.table["text"].to_pylist()
        changed = [f"changed {text}" if row % 100 == 0 else text for row, text in enumerate(texts)]
        table = passages.table.set_column(2, "text", pa.array(changed))
        Passages(table).save(folder / "changed.parquet")
        first = seconds(lambda: ingest_passages(folder / "passages.parquet", folder / "base", encoder))
        second = seconds(lambda: ingest_passages(folder / "passages.parquet", folder / "base", encoder))
        update = seconds(lambda: ingest_passages(folder / "changed.parquet", folder / "base", encoder))
    rows = [
        ("writing in chunks of 5,000", "rows/s"),
        ("Feast's MilvusOnlineStore", f"{feast:,.0f}"),
        ("ragtune's BatchedMilvusOnlineStore", f"{ours:,.0f}"),
        ("", ""),
        (f"ingesting {options.rows:,} passages, no encoder", "seconds"),
        ("the first time, index and check included", f"{first:.1f}"),
        ("again, unchanged", f"{second:.2f}"),
        ("again, 1 % changed", f"{update:.1f}"),
        ("unchanged: times faster", f"{first / second:.0f}"),
    ]
    figures = {
        "ours_rows_per_s": round(ours),
        "feast_rows_per_s": round(feast),
        "ours_over_feast": round(ours / feast, 3),
        "first_seconds": round(first, 2),
        "unchanged_seconds": round(second, 3),
        "one_percent_changed_seconds": round(update, 2),
        "unchanged_times_faster": round(first / second, 1),
    }
    report("ingestion", rows, {**vars(options), "vectors": "made up", **figures}, VERSIONS)


if __name__ == "__main__":
    main()
