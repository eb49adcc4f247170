import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from conftest import ExactSearch

from ragtune.training.retrieval import Gather, search_at_once

DIMENSION = 4
STORED = np.random.default_rng(0).normal(size=(20, DIMENSION)).astype(np.float32)
QUERIES = np.random.default_rng(1).normal(size=(5, DIMENSION)).astype(np.float32)


def test_batches_that_are_searched_at_once_get_their_own_answers():
    search = ExactSearch(STORED)
    parts = search_at_once(search, [QUERIES[:3], QUERIES[3:]], 2)
    assert search.calls == 1
    for part, queries in zip(parts, (QUERIES[:3], QUERIES[3:]), strict=True):
        alone = search.search(queries, 2)
        assert (part.rows == alone.rows).all()
        assert (part.embeddings == alone.embeddings).all()


@pytest.mark.slow
@pytest.mark.parametrize("shares", [(3, 2), (5, 0), (0, 0)])
def test_two_processes_get_from_the_first_what_one_would_have_found(shares, tmp_path):
    mp.spawn(_ask_through_the_first, (shares, str(tmp_path)), nprocs=2)
    everyone = ExactSearch(STORED).search(QUERIES[: sum(shares)], 3)
    found = [np.load(tmp_path / f"{rank}.npz") for rank in range(2)]
    for name in ("rows", "scores", "embeddings"):
        together = np.concatenate([part[name] for part in found])
        assert together == pytest.approx(getattr(everyone, name))


def _ask_through_the_first(rank, shares, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    start = sum(shares[:rank])
    gather = Gather(ExactSearch(STORED) if rank == 0 else None, DIMENSION)
    found = gather.search(QUERIES[start : start + shares[rank]], 3)
    np.savez(f"{folder}/{rank}.npz", rows=found.rows, scores=found.scores, embeddings=found.embeddings)
    dist.destroy_process_group()
