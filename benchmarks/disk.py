"""Claim: a passage takes about 10 KB of a workspace, and Milvus Lite's file 7 KB more, with vectors of 768 floats.

    python benchmarks/disk.py [--rows 10000] [--dimension 768]

The passages are made up, of 100 words, and so are their vectors; docs/scale.md multiplies what this prints.
"""

import argparse
import tempfile
from pathlib import Path

from measured import report
from stores import VERSIONS, KnownVectors, made_up_passages, made_up_vectors

from ragtune.knowledge.knowledge_base import ingest_passages


def size(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    return sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file())


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000, help="passages")
    parser.add_argument("--dimension", type=int, default=768, help="of their vectors")
    options = parser.parse_args(arguments)

    with tempfile.TemporaryDirectory() as folder:
        passages, base = Path(folder) / "passages.arrow", Path(folder) / "base"
        made_up_passages(passages, options.rows)
        ingest_passages(passages, base, KnownVectors(made_up_vectors(options.rows, options.dimension)), index="FLAT")
        version = base / "kb_v1"
        parts = {
            "embedding_cache": base / "embeddings",
            "vectors": version / "vectors.npy",
            "offline_source": version / "features.parquet",
            "passages": version / "passages.arrow",
            "milvus_lite": version / "milvus.db",
        }
        bytes_each = {f"{name}_bytes": round(size(path) / options.rows) for name, path in parts.items()}
    report(
        "disk",
        [("bytes per passage", ""), *((name.removesuffix("_bytes"), f"{each:,}") for name, each in bytes_each.items())],
        {"rows": options.rows, "dimension": options.dimension, **bytes_each},
        VERSIONS,
    )


if __name__ == "__main__":
    main()
