import pytest
from transformers import TrainerControl, TrainerState

from ragtune.training.telemetry import progress_lines as module
from ragtune.training.telemetry.progress_lines import ProgressLines


@pytest.fixture
def log(monkeypatch, capsys):
    """The line for a log entry, 10 seconds after training began at step 4."""

    def log(logs, step=8, first=True):
        now = 100.0
        monkeypatch.setattr(module.time, "monotonic", lambda: now)
        lines, state = ProgressLines(), TrainerState(global_step=4, max_steps=20, is_world_process_zero=first)
        lines.on_train_begin(None, state, None)
        now, state.global_step = 110.0, step
        lines.on_log(None, state, None, logs)
        return capsys.readouterr().err

    return log


def test_a_training_line_has_speed_metrics_and_the_time_left(log):
    logs = {"loss": 1.23456, "samples_per_second": 12.34, "tokens_per_second": 5000, "train_recall@5": 0.5}
    told = "training: 8 of 20 steps, 12.3 questions/s, 5,000 tokens/s, loss 1.2346, recall@5 0.500, 30 s to go\n"
    assert log(logs | {"unknown": 1.0, "search_fraction": 0.25}).replace("search 25%, ", "") == told


def test_a_training_without_a_generator_tells_no_speed_of_one(log):
    told = "training: 8 of 20 steps, 12.3 questions/s, loss 1.2346, 30 s to go\n"
    assert log({"loss": 1.23456, "samples_per_second": 12.34}) == told


def test_a_validation_line_has_no_time_left(log):
    assert log({"eval_loss": 2.0, "eval_em": 0.125}) == "validation: 8 of 20 steps, EM 0.125, loss 2.0000\n"


def test_the_first_step_of_a_resumed_run_does_not_know_the_time_left(log):
    assert "to go" not in log({"loss": 1.0}, step=4)


def test_other_entries_and_other_processes_print_nothing(log):
    assert log({"train_runtime": 3.0}) == log({}) == log({"loss": 1.0}, first=False) == ""


def test_the_last_step_is_logged_whatever_the_cadence():
    for step, logged in ((19, False), (20, True)):
        control = TrainerControl()
        ProgressLines().on_step_end(None, TrainerState(global_step=step, max_steps=20), control)
        assert control.should_log == logged
