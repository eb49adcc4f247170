import math

import numpy as np
import pytest
import torch

from ragtune.knowledge.passages import Passage
from ragtune.training.telemetry.monitor import Clock, Window, collapse_warnings, entropy
from ragtune.training.telemetry.throughput import Work

PASSAGES = [Passage(f"p{n}", "", "", (f"w{n}",)) for n in range(10)]


def test_entropy_counts_padding_as_impossible():
    log_probs = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]).log()
    assert entropy(log_probs).tolist() == pytest.approx([math.log(2), 0.0])


def test_a_window_counts_questions_distinct_passages_and_gold():
    window = Window()
    rows = np.array([[0, 1, 2], [2, 3, -1]])
    window.add_retrieved(rows, [["w1"], ["w9"]], PASSAGES)
    window.add_retrieved(rows[:1], [[]], PASSAGES)
    window.add_entropy(torch.tensor([[0.5, 0.5, 0.0]]).log())
    clock = Clock()
    figures, _ = window.close(clock, n_docs=3, base_rows=10)
    assert figures["distinct_passages"] == 4
    assert figures["train_recall@3"] == 0.5
    assert figures["entropy"] == pytest.approx(math.log(2))
    assert clock.questions == 3


def test_tokens_a_second_and_the_share_of_the_devices_peak():
    window = Window()
    window.start -= 10
    window.add_work(Work(300, 4e9))
    window.add_work(Work(200, 1e9))
    clock = Clock(tokens=100)
    figures, _ = window.close(clock, n_docs=3, base_rows=10, peak_flops=1e9)
    assert figures["tokens_per_second"] == pytest.approx(50, rel=0.05)
    assert figures["mfu"] == pytest.approx(0.5, rel=0.05)
    assert clock.tokens == 600


def test_a_training_without_generator_and_search_tells_no_speed_of_them():
    window = Window(questions=8)
    window.start -= 2
    figures, _ = window.close(Clock(), n_docs=0, base_rows=10)
    assert figures == {"samples_per_second": pytest.approx(4, rel=0.05)}


def test_there_is_no_mfu_where_the_peak_is_not_known():
    figures, _ = Window().close(Clock(), n_docs=3, base_rows=10)
    assert "mfu" not in figures


def test_a_pause_does_not_count():
    window = Window()
    window.start -= 10
    window.paused_seconds = 8
    window.search_seconds = 1
    clock = Clock()
    window.close(clock, n_docs=3, base_rows=10)
    assert clock.seconds == pytest.approx(2, abs=0.1)
    assert clock.figures()["search_fraction"] == pytest.approx(0.5, abs=0.05)


def test_healthy_retrieval_is_not_warned_of():
    assert collapse_warnings(questions=80, distinct=150, mean_entropy=1.0, n_docs=5, base_rows=1000) == []


def test_few_questions_are_not_judged():
    assert collapse_warnings(questions=8, distinct=5, mean_entropy=0.0, n_docs=5, base_rows=1000) == []


def test_a_small_base_that_is_all_retrieved_is_healthy():
    assert collapse_warnings(questions=800, distinct=60, mean_entropy=1.0, n_docs=5, base_rows=60) == []


def test_a_loss_without_probabilities_of_passages_has_no_entropy_to_warn_of():
    window = Window()
    window.add_retrieved(np.arange(60).reshape(20, 3), [[]] * 20, PASSAGES)
    figures, warnings = window.close(Clock(), n_docs=3, base_rows=60)
    assert "entropy" not in figures
    assert warnings == []


@pytest.mark.parametrize(
    ("distinct", "mean_entropy", "what", "way_out"),
    [
        (5, 1.0, "80 questions retrieved only 5 distinct passages", "lower question_encoder_learning_rate"),
        (150, 0.001, "puts all its weight on one passage", "higher temperature"),
        (150, math.log(5), "is uniform", "lower temperature"),
    ],
)
def test_a_warning_says_what_is_wrong_and_what_to_try(distinct, mean_entropy, what, way_out):
    (warning,) = collapse_warnings(80, distinct, mean_entropy, n_docs=5, base_rows=1000)
    assert what in warning
    assert way_out in warning
