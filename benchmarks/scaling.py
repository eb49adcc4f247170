"""Claim: at a million passages no stage grows much faster than the passages, and memory peaks below 6 GB.

    python benchmarks/scaling.py [--sizes 50000 200000 1000000] [--dimension 128] [--index auto]

Passages are made up, of 100 words, and so are their vectors, which cost next to nothing to compute from the passages'
numbers: what is measured is the work around an encoder. Milvus is embedded. Each of several sizes has a process of its
own; the result file keeps the sizes that are not measured again.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import measured
import numpy as np
import numpy.typing as npt
from stores import VERSIONS

from ragtune.knowledge import ingestion, knowledge_base
from ragtune.knowledge.exact import ExactSearcher
from ragtune.knowledge.knowledge_base import KnowledgeBase, ingest_passages
from ragtune.knowledge.passages import Passage, Passages
from ragtune.knowledge.rows import Rows
from ragtune.knowledge.split_corpus import split_passages

STAGES = ("split", "rest", "embed", "files", "milvus", "index", "unchanged", "open", "search")
FASTER_THAN_LINEAR = 1.1  # an exponent above it
QUESTIONS = 256
_WORDS = ("river", "king", "treaty", "album", "season", "theorem", "castle", "engine", "novel", "island", "protein")
_PATTERNS, _WORDS_PER_PATTERN = 1000, 33
_LATENT = 32  # dimensions of the subspace that the vectors lie near
_SAMPLES_PER_SECOND = 50


class NumberedVectors:
    """An encoder that makes the vector of the passage `p<i>` from i alone, so that none is kept in memory."""

    name, precision = "numbered vectors", "float32"

    def __init__(self, dimension: int):
        self.dimension = dimension
        self.fingerprint = f"{dimension:064x}"
        self._subspace = np.random.default_rng(1).normal(size=(_LATENT, dimension)).astype(np.float32)

    def encode_passages(self, passages: Sequence[Passage], **options: Any) -> npt.NDArray[np.float32]:
        return np.concatenate([self._vectors(passages[i : i + 4096]) for i in range(0, len(passages), 4096)])

    def _vectors(self, passages: Sequence[Passage]) -> npt.NDArray[np.float32]:
        """Near a subspace, as an encoder's are, and of length 1."""
        width = _LATENT + self.dimension
        number = np.array([int(passage.id[1:]) for passage in passages], np.uint64)[:, None]
        drawn = _uniform(number * np.uint64(width) + np.arange(width, dtype=np.uint64))
        vectors = drawn[:, :_LATENT] @ self._subspace / math.sqrt(_LATENT) + 0.3 * drawn[:, _LATENT:]
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Stages:
    """Seconds, processor seconds and peak memory of each stage; what a stage inside another takes is its own."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.processor_seconds: Counter[str] = Counter()
        self.peak: Counter[str] = Counter()  # resident bytes
        self.peak_own: Counter[str] = Counter()  # those that are no pages of mapped files, which the system can drop
        self._inside: list[str] = []
        self._marked = (0.0, 0.0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self._mark()
        self._inside.append(name)
        self._sample()
        try:
            yield
        finally:
            self._mark()
            self._sample()
            self._inside.pop()

    @contextmanager
    def watched(self, owner: Any, function: str, name: str) -> Iterator[None]:
        """For the block, every call of `owner.function` is a stage."""
        called = getattr(owner, function)

        def timed(*args: Any, **options: Any) -> Any:
            with self.stage(name):
                return called(*args, **options)

        setattr(owner, function, timed)
        try:
            yield
        finally:
            setattr(owner, function, called)

    @contextmanager
    def sampled(self) -> Iterator[None]:
        """For the block, look at the memory many times a second."""
        ended = threading.Event()

        def sample() -> None:
            while not ended.wait(1 / _SAMPLES_PER_SECOND):
                self._sample()

        thread = threading.Thread(target=sample)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def figures(self) -> dict[str, dict[str, float]]:
        return {
            name: {
                "seconds": round(self.seconds[name], 4),
                "processor_seconds": round(self.processor_seconds[name], 4),
                "peak_gb": round(self.peak[name] / 1e9, 3),
                "peak_without_mapped_files_gb": round(self.peak_own[name] / 1e9, 3),
            }
            for name in STAGES
        }

    def _mark(self) -> None:
        now = time.perf_counter(), time.process_time()
        if self._inside:
            self.seconds[self._inside[-1]] += now[0] - self._marked[0]
            self.processor_seconds[self._inside[-1]] += now[1] - self._marked[1]
        self._marked = now

    def _sample(self) -> None:
        resident, shared = map(int, Path("/proc/self/statm").read_text().split()[1:3])
        page = os.sysconf("SC_PAGE_SIZE")
        for name in self._inside[-1:]:
            self.peak[name] = max(self.peak[name], resident * page)
            self.peak_own[name] = max(self.peak_own[name], (resident - shared) * page)


def write_corpus(path: Path, rows: int) -> None:
    """Documents of 100 words, no two alike, that three patterns of words make up."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(_WORDS), (_PATTERNS, _WORDS_PER_PATTERN)).tolist()
    patterns = [" ".join(_WORDS[word] for word in line) for line in drawn]
    with open(path, "w", encoding="utf-8") as stream:
        for start in range(0, rows, _PATTERNS):
            chosen = rng.integers(0, _PATTERNS, (min(_PATTERNS, rows - start), 3)).tolist()
            for row, (a, b, c) in enumerate(chosen, start):
                text = f"{row} {patterns[a]} {patterns[b]} {patterns[c]}"
                stream.write(json.dumps({"id": f"p{row}", "title": f"Title {row}", "text": text}) + "\n")


def measure(rows: int, dimension: int, index: str, folder: Path) -> dict[str, Any]:
    """All stages with so many passages, in this process."""
    corpus, passages, base = folder / "corpus.jsonl", folder / "passages.parquet", folder / "base"
    write_corpus(corpus, rows)
    encoder, stages = NumberedVectors(dimension), Stages()
    with stages.sampled():
        with stages.stage("split"):
            split_passages(corpus, passages)
        with (
            stages.stage("rest"),
            stages.watched(ingestion, "embed_missing", "embed"),
            stages.watched(Passages, "save", "files"),
            stages.watched(ingestion, "write_offline_source", "files"),
            stages.watched(ingestion, "write_vectors", "files"),
            stages.watched(ingestion, "checksums_of", "files"),
            stages.watched(Rows, "write_missing", "milvus"),
            stages.watched(Rows, "index", "index"),
        ):
            manifest = ingest_passages(passages, base, encoder, index=index)
        with stages.stage("unchanged"):
            ingest_passages(passages, base, encoder, index=index)
        with stages.stage("open"):
            opened = KnowledgeBase.open(base)
        with opened:
            rng = np.random.default_rng(2)
            chosen = opened.passages.take(np.sort(rng.choice(rows, min(rows, QUESTIONS), replace=False)))
            queries = encoder.encode_passages(list(chosen))
            queries += 0.7 * rng.normal(size=queries.shape).astype(np.float32) / math.sqrt(dimension)
            with stages.stage("search"):
                found = opened.search(queries, 10).rows
            vectors = knowledge_base.read_vectors(opened.folder, rows, dimension)
            exact, _ = ExactSearcher(vectors).search(queries, 10)
    recall = np.mean([len({*mine} & {*theirs}) / len(theirs) for mine, theirs in zip(found, exact, strict=True)])
    return {
        "rows": rows,
        "dimension": dimension,
        "index": manifest.built_index,
        "index_recall": manifest.index_recall,
        "recall_at_10": round(float(recall), 4),
        "peak_gb": max(stages.figures()[name]["peak_gb"] for name in STAGES),
        "disk_gb": round(sum(file.stat().st_size for file in base.rglob("*") if file.is_file()) / 1e9, 2),
        "stages": stages.figures(),
        **measured.machine(),
    }


def exponent(rows: Sequence[int], values: Sequence[float]) -> float:
    """The b of the curve a·rows^b through some measurements, by least squares of the logarithms."""
    return float(np.polyfit(np.log(rows), np.log(np.maximum(values, 0.01)), 1)[0])


def growth(sizes: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The exponent of every stage's processor seconds: 1 is linear. They depend less than seconds on other work."""
    rows = [size["rows"] for size in sizes]
    return {
        stage: round(exponent(rows, [size["stages"][stage]["processor_seconds"] for size in sizes]), 2)
        for stage in STAGES
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[50_000, 200_000, 1_000_000], help="passages")
    parser.add_argument("--dimension", type=int, default=128, help="of their vectors")
    parser.add_argument("--index", default="auto", help="auto, HNSW or FLAT")
    parser.add_argument("--folder", type=Path, help="work there (default: a temporary folder); 10 GB per million")
    options = parser.parse_args(arguments)

    if len(options.sizes) > 1:
        common = ["--dimension", str(options.dimension), "--index", options.index]
        common += ["--folder", str(options.folder)] if options.folder else []
        for size in options.sizes:
            subprocess.run([sys.executable, __file__, "--sizes", str(size), *common], check=True)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        done = measure(options.sizes[0], options.dimension, options.index, Path(name))
    path = measured.RESULTS / "scaling.json"
    known = json.loads(path.read_text())["sizes"] if path.exists() else []
    sizes = sorted([*(size for size in known if size["rows"] != done["rows"]), done], key=lambda size: size["rows"])
    rows = [("stage", *(f"{size['rows']:,}: s, GB" for size in sizes), "exponent")]
    exponents = growth(sizes) if len(sizes) > 1 else {}
    for stage in STAGES:
        told = [f"{size['stages'][stage]['seconds']:,.1f}, {size['stages'][stage]['peak_gb']:.2f}" for size in sizes]
        rows.append((stage, *told, str(exponents.get(stage, ""))))
    faster = [stage for stage, power in exponents.items() if power > FASTER_THAN_LINEAR]
    measured.report("scaling", rows, {"sizes": sizes, "exponents": exponents, "faster_than_linear": faster}, VERSIONS)


def _uniform(counters: npt.NDArray[np.uint64]) -> npt.NDArray[np.float32]:
    """A number from -√3 to √3, of variance 1, for each counter: SplitMix64."""
    with np.errstate(over="ignore"):
        mixed = counters * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((mixed ^ (mixed >> np.uint64(31))).astype(np.float64) / 2**63 - 1).astype(np.float32) * np.float32(3**0.5)


if __name__ == "__main__":
    main()
