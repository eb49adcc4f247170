"""A small DAG on this machine; the whole one runs in tests/components."""

import json
import sys

import pytest
from kfp import dsl

from ragtune.errors import ParameterError, RagtuneError, StorageError
from ragtune.kubeflow import local_run
from ragtune.kubeflow.local_run import _with_this_python, run_here


@dsl.component(install_kfp_package=False)
def divide(by: int, metrics: dsl.Output[dsl.Metrics]):
    import os

    if by < 0:
        os.kill(os.getpid(), 9)
    metrics.log_metric("quotient", 6 / by)


@dsl.pipeline(name="small")
def small(by: int = 2):
    divide(by=by)


def test_a_box_that_fails_is_named_with_its_error_and_its_log(tmp_path):
    with pytest.raises(RagtuneError, match=r"divide: .*division by zero") as caught:
        run_here(small, {"by": 0}, tmp_path / "run")
    log = tmp_path / "run" / "log.txt"
    assert f"The whole log: {log}" in str(caught.value)
    assert "ZeroDivisionError" in log.read_text()
    assert json.loads((tmp_path / "run" / "parameters.json").read_text()) == {"by": 0}


def test_the_folder_of_a_run_is_not_taken_twice(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.json").write_text("{}")
    with pytest.raises(StorageError, match="run"):
        run_here(small, {"by": 2}, tmp_path / "run")


def test_a_secret_among_the_parameters_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ParameterError):
        run_here(small, {"questions": "https://me:hunter2@data.example.org/q.jsonl"}, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_only_the_boxs_own_python_is_replaced():
    command = ["sh", "-c", "python3 -m kfp.dsl.executor_main --path /lib/python3.11/x"]
    assert _with_this_python(command, sys.executable)[2] == (
        f"{sys.executable} -m kfp.dsl.executor_main --path /lib/python3.11/x"
    )


@pytest.mark.parametrize("forks", [True, False])
def test_a_box_that_a_signal_ends_says_so_as_a_fork_and_as_a_process_of_its_own(monkeypatch, tmp_path, forks):
    monkeypatch.setattr(local_run, "_FORKS", forks)
    with pytest.raises(RagtuneError, match="divide: was ended by SIGKILL; most often the memory ran out"):
        run_here(small, {"by": -1}, tmp_path / "run")
