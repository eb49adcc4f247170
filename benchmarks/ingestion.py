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
from measured import PAIRS, in_turn, medians, ratio, report
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


def write_paths(folder: Path, passages: Passages, vectors: np.ndarray, pairs: int) -> dict[str, list[float]]:
    """Rows a second of every run, "ours" and "feast"; in turn, so that both see the same machine."""
    parts, dimension = frames(passages, vectors), vectors.shape[1]
    write_feature_repo(folder / "index", "index", "", GRAPH)

    def own_folder() -> Path:
        return Path(tempfile.mkdtemp(dir=folder))

    sides = {
        "ours": lambda: len(passages) / write_with_ours(own_folder(), dimension, parts),
        "feast": lambda: len(passages) / write_with_feast(own_folder(), dimension, parts, index_of(folder / "index")),
    }
    return in_turn(sides, pairs)


def ingestions(folder: Path, encoder: KnownVectors, changed: Path) -> dict[str, float]:
    """Seconds of ingesting for the first time, again, and with the changes, into a base of its own."""
    base, corpora = Path(tempfile.mkdtemp(dir=folder)), {"first": folder / "passages.parquet"}
    corpora |= {"unchanged": folder / "passages.parquet", "one_percent_changed": changed}
    return {name: seconds(lambda c=corpus: ingest_passages(c, base, encoder)) for name, corpus in corpora.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000, help="ingested twice, then with changes")
    parser.add_argument("--written", type=int, default=20_000, help="rows for the comparison of the write paths")
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--pairs", type=int, default=PAIRS, help="how often each side is measured, in turn")
    options = parser.parse_args()

    vectors = made_up_vectors(max(options.rows, options.written), options.dimension)
    encoder = KnownVectors(vectors)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        some = made_up_passages(folder / "some.parquet", options.written)
        written = write_paths(folder, some, vectors[: options.written], options.pairs)
        passages = made_up_passages(folder / "passages.parquet", options.rows)
        texts = passages.table["text"].to_pylist()
        changed = [f"changed {text}" if row % 100 == 0 else text for row, text in enumerate(texts)]
        table = passages.table.set_column(2, "text", pa.array(changed))
        Passages(table).save(folder / "changed.parquet")
        runs = [ingestions(folder, encoder, folder / "changed.parquet") for _ in range(options.pairs)]
    ours, feast = median(written["ours"]), median(written["feast"])
    times = medians(runs)
    faster = ratio([run["first"] for run in runs], [run["unchanged"] for run in runs])
    wrote = ratio(written["ours"], written["feast"])
    rows = [
        ("writing in chunks of 5,000", "rows/s"),
        ("Feast's MilvusOnlineStore", f"{feast:,.0f}"),
        ("ragtune's BatchedMilvusOnlineStore", f"{ours:,.0f}"),
        ("ragtune's by Feast's", str(wrote)),
        ("", ""),
        (f"ingesting {options.rows:,} passages, no encoder", "seconds"),
        ("the first time, index and check included", f"{times['first']:.1f}"),
        ("again, unchanged", f"{times['unchanged']:.2f}"),
        ("again, 1 % changed", f"{times['one_percent_changed']:.1f}"),
        ("unchanged: times faster", str(faster)),
    ]
    figures = {
        "ours_rows_per_s": round(ours),
        "feast_rows_per_s": round(feast),
        **{f"{name}_seconds": round(value, 3) for name, value in times.items()},
        **wrote.figures("ours_over_feast"),
        **faster.figures("unchanged_times_faster"),
    }
    report("ingestion", rows, {**vars(options), "vectors": "made up", **figures}, VERSIONS)


if __name__ == "__main__":
    main()
