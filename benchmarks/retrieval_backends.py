"""Claim: where processes compute unevenly long, retrieval by Ray takes at most half the time a call of gathering.

    OMP_NUM_THREADS=1 python benchmarks/retrieval_backends.py

The figure to reach is Hugging Face's for RAG on 4 GPUs: 1.66 s a call with Ray, 3.438 s with torch.distributed.

Four training processes on one embedded base of made-up vectors. Their computing is modelled as on a GPU, by a sleep of
`--compute` seconds a step, half of it before the search. `in step`: gradients are reduced at the end of every step, as
in DDP, so that all wait there for the slowest; `apart`: they are not, as while gradients are accumulated.
`even`: each process computes equally long; else longer or shorter by up to `--jitter`, as batches of unequal length do.
"""

import argparse
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
from measured import PAIRS, in_turn, medians, ratio, report
from stores import VERSIONS, KnownVectors, made_up_passages, made_up_vectors

BACKENDS = ("direct", "gather", "ray")
CONDITIONS = ("even, in step", "uneven, in step", "uneven, apart")
WARM_UP_CALLS = 3


def build(folder: Path, rows: int, dimension: int) -> None:
    from ragtune.knowledge.knowledge_base import ingest_passages

    made_up_passages(folder / "passages.parquet", rows)
    ingest_passages(folder / "passages.parquet", folder / "base", KnownVectors(made_up_vectors(rows, dimension)))


def train(folder: Path, backend: str, options: dict[str, Any]) -> None:
    """One of the training processes; process 0 writes what all of them took."""
    import torch
    import torch.distributed as dist

    from ragtune.knowledge.pointers import resolve
    from ragtune.training.arguments import RagTrainingArguments, RunFiles
    from ragtune.training.knowledge import open_knowledge

    torch.set_num_threads(1)
    args = RagTrainingArguments(output_dir=str(folder), retrieval=backend, use_cpu=True, report_to="none")
    rank = args.process_index
    files = RunFiles(str(folder), str(folder / "base"), "model", "work", model_folder=str(folder))
    batch, k, calls = options["batch"], options["k"], options["calls"]
    queries = made_up_vectors(batch * calls, options["dimension"], seed=2 + rank)
    taken = {}
    with open_knowledge(*resolve(folder / "base"), files, args) as knowledge:
        for condition in CONDITIONS:
            uneven = options["jitter"] if condition.startswith("uneven") else 0
            jitter = np.random.default_rng(rank).uniform(-uneven, uneven, size=(calls, 2))
            seconds = []
            for call in range(-WARM_UP_CALLS, calls):
                if call == 0:
                    dist.barrier()
                    start = time.perf_counter()
                before, after = options["compute"] / 2 * (1 + jitter[max(call, 0)])
                time.sleep(before)
                asked = time.perf_counter()
                knowledge.search.search(queries[call * batch :][:batch] if call >= 0 else queries[:batch], k)
                seconds.append(time.perf_counter() - asked)
                time.sleep(after)
                if condition.endswith("in step"):
                    dist.all_reduce(torch.zeros(1))
            own = {"seconds": seconds[WARM_UP_CALLS:], "elapsed": time.perf_counter() - start}
            everyone: list[Any] = [None] * args.world_size
            dist.all_gather_object(everyone, own)
            taken[condition] = everyone
    if rank == 0:
        (folder / f"{backend}.json").write_text(json.dumps(taken))
    dist.destroy_process_group()


def measure(folder: Path, backend: str, options: dict[str, Any]) -> dict[str, float]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    worker = [__file__, "--worker", backend, "--folder", str(folder), "--options", json.dumps(options)]
    subprocess.run([*torchrun, str(options["processes"]), *worker], check=True)
    figures = {}
    for condition, processes in json.loads((folder / f"{backend}.json").read_text()).items():
        name = key(backend, condition)
        seconds = [one for process in processes for one in process["seconds"]]
        figures[f"{name}_ms_per_call"] = 1e3 * mean(seconds)
        figures[f"{name}_ms_per_call_median"] = 1e3 * median(seconds)
        figures[f"{name}_steps_per_s"] = options["calls"] / max(process["elapsed"] for process in processes)
    return figures


def key(backend: str, condition: str) -> str:
    return f"{backend}_{condition.replace(', ', '_').replace(' ', '_')}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("-k", type=int, default=5)
    parser.add_argument("--calls", type=int, default=20, help="of each process")
    parser.add_argument("--compute", type=float, default=0.5, help="seconds of a step without its search")
    parser.add_argument("--jitter", type=float, default=0.3, help="a share of the computing, more or less")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="how often each backend is measured, in turn")
    parser.add_argument("--worker", choices=BACKENDS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--options", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        train(given.folder, given.worker, given.options)
        return

    options = {name: value for name, value in vars(given).items() if name not in ("worker", "folder", "options")}
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        builder = multiprocessing.get_context("spawn").Process(
            target=build, args=(Path(folder), given.rows, given.dimension)
        )
        builder.start()
        builder.join()
        sides = {backend: partial(measure, Path(folder), backend, options) for backend in BACKENDS}
        runs = in_turn(sides, given.pairs)
    for of_backend in runs.values():
        figures |= medians(of_backend)
    table = [("retrieval", *(f"{condition}: {what}" for condition in CONDITIONS for what in ("ms a call", "steps/s")))]
    for backend in BACKENDS:
        names = [key(backend, condition) for condition in CONDITIONS]
        cells = [(f"{figures[f'{name}_ms_per_call']:,.0f}", f"{figures[f'{name}_steps_per_s']:.2f}") for name in names]
        table.append((backend, *chain.from_iterable(cells)))
    cells = []
    for condition in CONDITIONS:
        gather, ray = (key(backend, condition) for backend in ("gather", "ray"))
        faster = ratio(
            *([run[f"{name}_ms_per_call"] for run in runs[side]] for side, name in (("gather", gather), ("ray", ray)))
        )
        figures |= faster.figures(f"{ray}_times_faster_a_call_than_gather")
        more = figures[f"{ray}_steps_per_s"] / figures[f"{gather}_steps_per_s"]
        cells.append((f"{faster} x", f"{more:.2f} x"))
    table.append(("ray against gather", *chain.from_iterable(cells)))
    figures = {name: round(value, 3) if isinstance(value, float) else value for name, value in figures.items()}
    report("retrieval_backends", table, {**options, "vectors": "made up", **figures}, (*VERSIONS, "ray", "torch"))


if __name__ == "__main__":
    main()
