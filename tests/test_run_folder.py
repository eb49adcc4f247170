import contextlib
import io
import warnings

import pytest
from kfp import dsl, local

from ragtune.errors import RagtuneError
from ragtune.run_folder import BoxLog, box_folder, box_metrics, summary


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def count_words(text: str, metrics: dsl.Output[dsl.Metrics]):
    from ragtune.errors import QuestionError

    print("counting: 1 of 1 words, 9.0/s, 0 s to go")
    if not text:
        raise QuestionError("questions.jsonl: is empty; give one that is not")
    metrics.log_metric("words", len(text.split()))


@dsl.pipeline(name="counting")
def counting(text: str):
    count_words(text=text)


@pytest.fixture
def run(tmp_path):
    def start(text):
        local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "boxes"))
        terminal, log = io.StringIO(), io.StringIO()
        box_log = BoxLog(log, terminal, 1, lambda box: box_metrics(tmp_path / "boxes", box))
        with warnings.catch_warnings(), contextlib.redirect_stdout(box_log), contextlib.suppress(RuntimeError):
            counting(text=text)
        return box_log, terminal.getvalue(), log.getvalue()

    return start


def test_a_box_that_succeeds_gets_its_line_with_time_and_counts(run, tmp_path):
    box_log, terminal, log = run("one two three")
    assert box_log.seconds.keys() == {"count_words"}
    assert box_metrics(tmp_path / "boxes", "count_words") == {"words": 3}
    progress_line, line = terminal.splitlines()
    assert progress_line.strip() == "counting: 1 of 1 words, 9.0/s, 0 s to go"
    assert line.startswith("[1/1] count_words")
    assert line.endswith("words 3")
    assert "Executing task" in log


def test_a_box_that_fails_says_why(run):
    box_log, terminal, log = run("")
    assert box_log.failure == "questions.jsonl: is empty; give one that is not"
    assert terminal.splitlines()[-1].endswith("failed")
    assert "Traceback" in log


def test_a_box_that_never_ran_is_named(tmp_path):
    with pytest.raises(RagtuneError, match="no outputs of finetune_rag"):
        box_folder(tmp_path, "finetune_rag")


def test_the_summary_shows_before_after_and_change(tmp_path):
    figures = {"em_before": 0.25, "em_after": 0.75, "f1_before": 0.3, "f1_after": 0.8}
    figures |= {"recall@5_before": 0.9, "recall@5_after": 1.0, "em_closed_book": 0.1}
    lines = summary(figures, tmp_path).splitlines()
    assert lines[1].split() == ["EM", "0.250", "0.750", "+0.500"]
    assert lines[4].split()[-1] == "0.100"
    assert str(tmp_path / "report.html") in lines[-2]
