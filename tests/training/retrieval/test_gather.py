import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from exact_search import ExactSearch
from gather_process import QUERIES, SHARES, STORED


@pytest.fixture(scope="module")
def gathered(tmp_path_factory):
    """The passages that two processes got, of which only the first can search."""
    folder = tmp_path_factory.mktemp("gathered")
    script = str(Path(__file__).parents[1] / "gather_process.py")
    started = [subprocess.Popen([sys.executable, script, str(rank), str(folder)]) for rank in range(2)]
    assert [process.wait(timeout=120) for process in started] == [0, 0]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(SHARES)), ids=map(str, SHARES))
def test_two_processes_get_from_the_first_what_one_would_have_found(gathered, number):
    expected = ExactSearch(STORED).search(QUERIES[: sum(SHARES[number])], 3)
    found = [np.load(gathered / f"{number}-{rank}.npz") for rank in range(2)]
    assert [len(part["rows"]) for part in found] == list(SHARES[number])
    for name in ("rows", "scores", "embeddings"):
        together = np.concatenate([part[name] for part in found])
        assert together == pytest.approx(getattr(expected, name))
