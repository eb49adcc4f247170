"""Started by test_ray_retrieval.py with torchrun: every process asks every backend, and writes what it got."""

import sys
from pathlib import Path

import numpy as np

from ragtune.knowledge.pointers import resolve
from ragtune.settings.training import RETRIEVALS
from ragtune.training.arguments import RagTrainingArguments, RunFiles
from ragtune.training.knowledge import open_knowledge

QUERIES = np.random.default_rng(1).normal(size=(9, 32)).astype(np.float32)
SHARES = (7, 2)  # of the two processes


def main(world, *places):
    for base, output in zip(places[::2], places[1::2], strict=True):
        Path(output).mkdir(exist_ok=True)
        ask_all(world, base, output)


def ask_all(world, base, output):
    folder, manifest = resolve(Path(base))
    files = RunFiles(world, base, "out", "work", model_folder=world)
    for retrieval in RETRIEVALS:
        args = RagTrainingArguments(output_dir="run", retrieval=retrieval, report_to="none")
        rank = args.process_index
        own = QUERIES[sum(SHARES[:rank]) :][: SHARES[rank]]
        with open_knowledge(folder, manifest, files, args) as knowledge:
            found = knowledge.search.search(own, 3)
            none = knowledge.search.search(own[:0], 3)
        assert none.embeddings.shape == (0, 3, 32)
        arrays = {"rows": found.rows, "scores": found.scores, "embeddings": found.embeddings}
        np.savez(f"{output}/{retrieval}-{rank}.npz", **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
