"""Claim: an ingestion that is killed harms no reader, and resumes exactly, wherever it was.

    python benchmarks/kill_ingestion.py [--kills 50] [--rows 3000]

One process ingests one corpus after another and is killed (SIGKILL) at a random moment; another searches its version
without a pause. Every second corpus is the one before with 1 % changed. After each kill the ingestion is run again, and
what it serves is compared with what was asked for: ids in order, texts, rows in Milvus, and every vector. The next
corpus follows, on the same knowledge base.
"""

import argparse
import multiprocessing
import random
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from measured import report
from stores import VERSIONS, made_up_vectors

from ragtune.errors import KnowledgeBaseError
from ragtune.knowledge.passages import Passage, Passages
from ragtune.knowledge.pointers import resolve, write_pointer

DIMENSION = 64
K = 5
_SLOWER_SECONDS = 0.01  # per call of the encoder, so that kills fall into embedding too
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["ragtune.knowledge.knowledge_base"])


class NumberEncoder:
    """Row n of a table of vectors for a passage whose text ends in the number n."""

    name, dimension, fingerprint, precision = "numbers", DIMENSION, "5" * 64, "float32"

    def __init__(self) -> None:
        self.vectors = made_up_vectors(20_000, DIMENSION)

    def encode_passages(self, passages: list[Passage], **options: Any) -> np.ndarray:
        time.sleep(_SLOWER_SECONDS)
        return self.vectors[[int(passage.text.rsplit(maxsplit=1)[-1]) for passage in passages]]


def write_corpus(path: Path, numbers: list[int]) -> None:
    """Passages of which the i-th has the id p<i> and the text "passage <number>"."""
    columns = {"id": [f"p{row}" for row in range(len(numbers))], "text": [f"passage {number}" for number in numbers]}
    Passages(pa.table(columns)).save(path)


def numbers_of(passages: Passages) -> list[int]:
    return [int(text.rsplit(maxsplit=1)[-1]) for text in passages.table["text"].to_pylist()]


def ingest(passages: Path, folder: Path) -> None:
    """In a process of its own; in small parts, so that there are many moments to be killed in."""
    from ragtune.knowledge import embedding
    from ragtune.knowledge.knowledge_base import ingest_passages

    embedding._ROWS_PER_CALL, embedding._SECONDS_PER_FILE, embedding._SECONDS_PER_CALL = 100, 0.0, 0.0
    ingest_passages(passages, folder, NumberEncoder(), chunk_rows=250)


def search_without_pause(pointer: Path, ends: Any, told: Any) -> None:
    """Open the version that a pointer names and search it until told to end; count searches, failed and wrong ones."""
    from ragtune.knowledge.knowledge_base import KnowledgeBase

    encoder, rng, counts = NumberEncoder(), np.random.default_rng(0), Counter(searches=0, failed=0, wrong=0)
    with KnowledgeBase.open(pointer) as base:
        vectors = encoder.vectors[numbers_of(base.passages)]
        told.put("open")
        while not ends.is_set():
            queries = encoder.vectors[rng.integers(0, len(encoder.vectors), 8)]
            try:
                found = base.search(queries, K)
            except KnowledgeBaseError as error:
                counts["failed"] += 1
                print(error, flush=True)
                continue
            theirs = vectors[found.rows]
            right = np.allclose(found.scores, np.einsum("bd,bkd->bk", queries, theirs), atol=1e-4)
            counts["wrong"] += not (right and np.allclose(found.embeddings, theirs, atol=1e-6))
            counts["searches"] += 1
    told.put(dict(counts))


def differences(folder: Path, numbers: list[int]) -> list[str]:
    """In what the served version differs from what was asked for."""
    from ragtune.knowledge.knowledge_base import KnowledgeBase

    encoder = NumberEncoder()
    expected, wrong = encoder.vectors[numbers], []
    with KnowledgeBase.open(folder) as base:
        if base.passages.ids != [f"p{row}" for row in range(len(numbers))] or numbers_of(base.passages) != numbers:
            wrong.append("passages")
        if base.manifest.rows != len(numbers):  # and opening has compared it with Milvus
            wrong.append("rows")
        found = base.search(expected, 1)
        stored = base._vectors
        if stored is None or not np.array_equal(stored, expected):
            wrong.append("vectors in the offline source")
        config, view = base._store.config, base._view
        pages = base._online.content_hashes(config, view)
        if sorted(identifier for identifiers, _ in pages for identifier in identifiers) != sorted(base.passages.ids):
            wrong.append("ids in Milvus")
        if not np.allclose(found.scores[:, 0], np.einsum("nd,nd->n", expected, expected), atol=1e-4):
            wrong.append("vectors in Milvus")
    return wrong


def run(folder: Path, kills: int, rows: int, seed: int = 0) -> dict[str, Any]:
    """Kill, resume and compare; the counts, which main and the test ask for zeros."""
    chance = random.Random(seed)
    numbers = chance.sample(range(20_000), rows)
    write_corpus(folder / "first.parquet", numbers)
    base = folder / "base"
    for place in (folder / "trial", base):  # the first one starts the server of processes, too
        began = time.monotonic()
        _finish(ingest, folder / "first.parquet", place)
    longest = time.monotonic() - began
    write_pointer(folder / "pointer", base)
    ends, told = _context.Event(), _context.Queue()
    reader = _context.Process(target=search_without_pause, args=(folder / "pointer", ends, told))
    reader.start()
    told.get(timeout=120)
    done = dict.fromkeys(("killed", "killed_after_the_switch", "finished_before", "inexact"), 0)
    number = 0
    while done["killed"] < kills:
        number += 1
        numbers = (
            [chance.randrange(20_000) if chance.random() < 0.01 else known for known in numbers]
            if number % 2
            else chance.sample(range(20_000), rows)
        )
        path = folder / f"corpus{number}.parquet"
        write_corpus(path, numbers)
        before = resolve(base)
        killed = _kill(chance.uniform(0.0, 1.1 * longest), path, base)
        switched = resolve(base) != before  # raises if what is served is not whole
        done["killed"] += killed
        done["killed_after_the_switch"] += killed and switched
        done["finished_before"] += not killed
        _finish(ingest, path, base)
        with _context.Pool(1) as pool:
            wrong = pool.apply(differences, (base, numbers))
        done["inexact"] += bool(wrong)
        print(f"{done['killed']} of {kills} kills; corpus {number}: {', '.join(wrong) or 'exact'}", flush=True)
    ends.set()
    searched = told.get(timeout=120)
    reader.join()
    return done | searched


def _finish(*work: Any) -> None:
    process = _context.Process(target=work[0], args=work[1:])
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"ingestion ended with {process.exitcode}")


def _kill(seconds: float, passages: Path, folder: Path) -> bool:
    """Kill an ingestion after so long; False where it had ended before."""
    process = _context.Process(target=ingest, args=(passages, folder))
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        counts = run(Path(name), options.kills, options.rows, options.seed)
    rows = [
        ("killed at a random moment", f"{counts['killed']}"),
        ("of these after the switch", f"{counts['killed_after_the_switch']}"),
        ("resumed, and not as asked for", f"{counts['inexact']}"),
        ("searches meanwhile", f"{counts['searches']:,}"),
        ("failed", f"{counts['failed']}"),
        ("with a wrong passage", f"{counts['wrong']}"),
    ]
    report("kill_ingestion", rows, {**vars(options), **counts}, VERSIONS)
    if counts["inexact"] or counts["failed"] or counts["wrong"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
