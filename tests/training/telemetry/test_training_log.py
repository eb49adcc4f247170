import pytest
from transformers import TrainerState

from ragtune.training.telemetry.monitor import Clock
from ragtune.training.telemetry.training_log import curve, improved, results

HISTORY = [
    {"step": 0, "eval_em": 0.1, "eval_loss": 4.0, "eval_recall@5": 0.3, "eval_runtime": 2.0},
    {"step": 1, "loss": 3.5, "entropy": 1.2, "epoch": 0.1},
    {"step": 2, "loss": 3.0, "entropy": 1.1, "epoch": 0.2},
    {"step": 2, "eval_em": 0.4, "eval_loss": 3.2, "eval_recall@5": 0.5, "epoch": 0.2},
    {"step": 2, "train_runtime": 10.0, "train_loss": 3.2},
]


def test_a_curve_has_one_entry_a_step():
    assert curve(HISTORY) == [
        {"step": 0, "em": 0.1, "validation_loss": 4.0, "recall@5": 0.3},
        {"step": 1, "loss": 3.5, "entropy": 1.2},
        {"step": 2, "loss": 3.0, "entropy": 1.1, "em": 0.4, "validation_loss": 3.2, "recall@5": 0.5},
    ]


def test_results_are_those_of_the_best_step():
    state = TrainerState(global_step=2, log_history=HISTORY, best_global_step=2)
    figures = results(state, Clock(seconds=4.0, search_seconds=1.0, questions=32, tokens=800), "em")
    assert figures == pytest.approx(
        {
            "steps": 2,
            "train_loss": 3.0,
            "seconds": 4.0,
            "samples_per_second": 8.0,
            "tokens_per_second": 200.0,
            "search_fraction": 0.25,
            "best_step": 2,
            "best_em": 0.4,
            "best_loss": 3.2,
        }
    )


def test_results_are_those_of_the_last_step_where_its_weights_are_kept():
    state = TrainerState(global_step=2, log_history=HISTORY, best_global_step=0)
    figures = results(state, Clock(), "recall@5", keeps_best=False)
    told = {name: value for name, value in figures.items() if name.startswith(("best", "last"))}
    assert told == {"last_step": 2, "last_em": 0.4, "last_loss": 3.2, "last_recall@5": 0.5}
    assert improved(state, "em", keeps_best=False) and not improved(state, "em")


def test_a_run_that_never_beats_the_base_model_is_told():
    assert improved(TrainerState(log_history=HISTORY, best_global_step=2), "em")
    worse = [*HISTORY[:3], HISTORY[3] | {"eval_em": 0.0}]
    assert not improved(TrainerState(log_history=worse, best_global_step=2), "em")
