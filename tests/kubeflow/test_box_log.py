import contextlib
import io
import warnings

import pytest
from kfp import dsl, local
from kfp.local import subprocess_task_handler

from ragtune.kubeflow.box_log import BoxLog
from ragtune.kubeflow.local_run import box_starter
from ragtune.kubeflow.run_folder import box_metrics


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def count_words(text: str, metrics: dsl.Output[dsl.Metrics]):
    import traceback

    from ragtune.errors import QuestionError

    try:
        raise TimeoutError("a passage that came late")
    except TimeoutError:
        traceback.print_exc()
    print("counting: 1 of 1 words, 9.0/s, 0 s to go")
    if not text:
        raise QuestionError("questions.jsonl: is empty; give one that is not")
    metrics.log_metric("words", len(text.split()))


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def survive(words: dsl.Input[dsl.Metrics], end: str):
    import logging
    import os
    import signal

    if end == "exit":
        os._exit(3)
    try:
        raise ValueError("a passage that was tried once more")
    except ValueError:
        logging.exception("what a box survives")
    if end == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if end == "raise":
        raise KeyError("gold")


@dsl.pipeline(name="counting")
def counting(text: str, end: str):
    survive(words=count_words(text=text).outputs["metrics"], end=end)


@pytest.fixture
def run(tmp_path, monkeypatch):
    def start(text, end=""):
        local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "boxes"))
        terminal, log = io.StringIO(), io.StringIO()
        box_log = BoxLog(log, terminal, 2, lambda box: box_metrics(tmp_path / "boxes", box))
        with warnings.catch_warnings(), box_starter(counting, None) as starter, contextlib.redirect_stdout(box_log):
            monkeypatch.setattr(subprocess_task_handler, "run_local_subprocess", starter)
            with contextlib.suppress(RuntimeError):
                counting(text=text, end=end)
        return box_log, terminal.getvalue(), log.getvalue()

    return start


def test_a_box_that_succeeds_gets_its_line_with_time_and_counts(run, tmp_path):
    box_log, terminal, log = run("one two three")
    assert box_log.seconds.keys() == {"count_words", "survive"}
    assert box_metrics(tmp_path / "boxes", "count_words") == {"words": 3}
    progress_line, line, _ = terminal.splitlines()
    assert progress_line.strip() == "counting: 1 of 1 words, 9.0/s, 0 s to go"
    assert line.startswith("[1/2] count_words")
    assert line.endswith("words 3")
    assert "Executing task" in log and "what a box survives" in log
    assert box_log.failed == box_log.failure == ""


def test_a_box_that_fails_says_why(run):
    box_log, terminal, log = run("")
    assert box_log.failed == "count_words"
    assert box_log.failure == "questions.jsonl: is empty; give one that is not"
    assert terminal.splitlines()[-1].endswith("failed")
    assert "Traceback" in log


@pytest.mark.parametrize(
    ("end", "failure"),
    [
        ("killed", "was ended by SIGKILL; most often the memory ran out"),
        ("raise", "KeyError: 'gold'"),
        ("exit", "ended with status 3 and no exception"),
    ],
)
def test_a_box_is_not_blamed_for_an_exception_that_it_or_another_survived(run, end, failure):
    box_log, _, log = run("one", end)
    assert "TimeoutError: a passage that came late" in log
    assert ("ValueError: a passage that was tried once more" in log) == (end != "exit")
    assert (box_log.failed, box_log.failure) == ("survive", failure)


def test_boxes_that_go_on_after_one_that_failed_are_not_called_failed_too():
    terminal = io.StringIO()
    box_log = BoxLog(io.StringIO(), terminal, 3, lambda box: {"boxes": 2})
    for box, status in (("train", "FAILURE"), ("summarize-run", "SUCCESS"), ("clean", "FAILURE")):
        box_log.write(f"Executing task '{box}'\nThe box ended with status 1\n")
        box_log.write(f"Task '{box}' finished with status {status}\n")
    assert [line.split()[-1] for line in terminal.getvalue().splitlines()] == ["failed", "2", "failed"]
    assert box_log.failed == "train"


def test_no_secret_of_a_uri_comes_into_the_log():
    log = io.StringIO()
    box_log = BoxLog(log, io.StringIO(), 1, lambda box: {})
    box_log.write("aiohttp: 403, url='https://host/x?sig=s3cr3t', see s3://key:s3cr3t@bucket/x\n")
    assert log.getvalue() == "aiohttp: 403, url='https://host/x?sig=***', see s3://***@bucket/x\n"
