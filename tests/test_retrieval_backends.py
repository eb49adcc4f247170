"""benchmarks/retrieval_backends.py on a small base, with two training processes."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import measured
import retrieval_backends

SMALL = ["--rows", "300", "--dimension", "32", "--processes", "2", "--calls", "2", "--compute", "0.02", "--pairs", "1"]


@pytest.mark.slow
def test_all_backends_are_measured_under_all_conditions(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(measured, "RESULTS", tmp_path)
    monkeypatch.setattr(retrieval_backends, "BACKENDS", ("gather", "ray"))  # those that are compared
    monkeypatch.setattr(sys, "argv", ["retrieval_backends.py", *SMALL])
    retrieval_backends.main()
    figures = json.loads((tmp_path / "retrieval_backends.json").read_text())
    for backend in retrieval_backends.BACKENDS:
        for condition in retrieval_backends.CONDITIONS:
            name = retrieval_backends.key(backend, condition)
            assert figures[f"{name}_ms_per_call"] > 0
            assert 0 < figures[f"{name}_steps_per_s"] < 1 / 0.02
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[:3]] == ["retrieval", "gather", "ray"]
