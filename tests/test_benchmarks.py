"""Small cuts of the benchmarks of speed: they run, and both sides do the same work."""

import json
import math
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Where the benchmarks leave what they measured."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    import measured

    monkeypatch.setattr(measured, "RESULTS", tmp_path)
    return tmp_path


@pytest.mark.slow
def test_training_beside_feasts_retriever(results, shared_data):
    import training

    sizes = ["--shape", "tiny", "--passages", "200", "--questions", "40", "--batch-size", "4"]
    training.main(["--data", str(shared_data), *sizes, "--warm-up", "1", "--steps", "2"])
    figures = json.loads((results / "training.json").read_text())
    assert figures["times_faster"] == pytest.approx(
        figures["ours_samples_per_s"] / figures["theirs_samples_per_s"], abs=0.01
    )
    for side in ("ours", "theirs"):
        parts = [value for name, value in figures.items() if name.startswith(side) and name.endswith("_seconds")]
        assert len(parts) == 7
        assert figures[f"{side}_processor_seconds_a_step"] > 0
        assert sum(parts) == pytest.approx(4 / figures[f"{side}_samples_per_s_mean"], rel=0.02)


def test_a_step_is_split_into_what_each_part_takes_alone(results):
    import time

    from stopwatch import Stopwatch

    watch = Stopwatch("cpu")
    with watch.span("outer"):
        time.sleep(0.02)
        with watch.span("inner"):
            time.sleep(0.05)
    assert watch.seconds["inner"] == pytest.approx(0.05, abs=0.02)
    assert watch.seconds["outer"] == pytest.approx(0.02, abs=0.02)


@pytest.mark.slow
def test_generation_beside_transformers(results):
    import generation

    generation.main(["--questions", "8", "--beams", "2"])
    figures = json.loads((results / "generation.json").read_text())
    assert figures["theirs_unpadded_2_beams_same_answers"] > 0.7
    assert figures["theirs_2_beams_same_answers"] > 0.4
    assert figures["ours_2_beams_per_s"] > 0
    assert figures["questions"] == 8


@pytest.mark.slow
def test_an_overlapped_search_beside_one_that_is_waited_for(results):
    import overlap

    overlap.main(["--steps", "2", "--questions", "20"])
    figures = json.loads((results / "overlap.json").read_text())
    assert 0 < figures["overlapped_search_fraction"] < 1
    assert math.isclose(figures["overlapped_best_loss"], figures["not_overlapped_best_loss"], rel_tol=0.1)
