"""One of the processes that test_retrieval.py starts: asks for its share of the queries, and writes what it got."""

import sys

import numpy as np
import torch
import torch.distributed as dist
from exact_search import ExactSearch

from ragtune.training.retrieval.gather import Gather

DIMENSION = 4
STORED = np.random.default_rng(0).normal(size=(20, DIMENSION)).astype(np.float32)
QUERIES = np.random.default_rng(1).normal(size=(5, DIMENSION)).astype(np.float32)
SHARES = [(3, 2), (5, 0), (0, 0)]  # of the two processes


def main(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    gather = Gather(ExactSearch(STORED) if rank == 0 else None, DIMENSION)
    for number, shares in enumerate(SHARES):
        start = sum(shares[:rank])
        found = gather.search(QUERIES[start : start + shares[rank]], 3)
        np.savez(f"{folder}/{number}-{rank}.npz", rows=found.rows, scores=found.scores, embeddings=found.embeddings)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
