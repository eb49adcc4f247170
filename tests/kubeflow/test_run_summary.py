"""Summaries of runs, from a local run's folder and from KFP's API."""

import json

import pytest

from ragtune.kubeflow.client import submit
from ragtune.kubeflow.package import upload
from ragtune.kubeflow.run_summary import BOXES, summarize

START = "training starts from the base model"
UNCHANGED = "unchanged: these sources, models and parameters led to version 3 of ragtune, the champion"
DECISION = "version 4 of ragtune: against the champion, version 3, EM differs by +2.0 points"
METRICS = {f"{name}_{side}": 0.5 for name in ("em", "f1", "recall@5") for side in ("before", "after")}
FAILURE = """Traceback (most recent call last):
  File "x.py", line 1, in <module>
ragtune.errors.TrainingError: n_docs=9: the knowledge base has 5 passages only; lower n_docs
"""


@pytest.fixture
def local_run(tmp_path):
    """Write a local run's boxes and its log; call it to get the place of the summary."""

    def write(done, begun=(), log=""):
        boxes = tmp_path / "boxes" / "rag-finetuning-2026"
        for box in (*done, *begun):
            (boxes / box.replace("_", "-")).mkdir(parents=True)
        for box in done:
            metrics = METRICS if box == "evaluate_rag" else {}
            outputs = {"artifacts": {"metrics": {"artifacts": [{"metadata": metrics}]}}}
            (boxes / box.replace("_", "-") / "executor_output.json").write_text(json.dumps(outputs))
        (tmp_path / "log.txt").write_text("".join(f"    {line}\n" for line in log.splitlines()))
        return boxes / "summarize-run" / "summary"

    return write


@pytest.fixture
def run_id(package, connection):
    return submit(connection, upload(connection, package), {"questions": "q", "corpus": "c"}, "a", "one")


def test_it_knows_the_boxes_of_the_pipeline(compiled):
    names = [box.replace("_", "-") for box in BOXES]
    assert sorted(names) == sorted(set(compiled.boxes()) - {"summarize-run"})


def test_a_local_run_that_succeeded(local_run):
    text = summarize("SUCCEEDED", "1", local_run(BOXES, log=f"{START}\n{DECISION}"))
    assert text.startswith(f"# The run succeeded\n\n{START}\n\n{DECISION}\n")
    assert "EM              0.500    0.500   +0.000" in text
    assert "| register_model | succeeded |" in text


def test_a_local_run_that_failed_names_the_box_and_its_error(local_run):
    text = summarize("FAILED", "1", local_run(BOXES[:3], begun=["finetune_rag"], log=FAILURE))
    assert text.startswith(
        "# The run failed\n\nthe box finetune_rag failed: n_docs=9: the knowledge base has 5 passages"
    )
    assert "| finetune_rag | failed |" in text and "evaluate_rag" not in text


def test_a_local_run_that_had_nothing_to_train(local_run):
    text = summarize("SUCCEEDED", "1", local_run(["check_inputs"], log=UNCHANGED))
    assert text.startswith(f"# The run was not needed\n\n{UNCHANGED}\n")


@pytest.mark.parametrize("state", ["CANCELED", "CANCELLED"])  # of KFP's API and of its SDK
def test_a_run_that_somebody_stopped_did_not_succeed(local_run, state):
    assert summarize(state, "1", local_run(BOXES[:3])).startswith("# The run was stopped\n")


def test_a_run_on_a_cluster_that_succeeded(server, connection, run_id, tmp_path):
    rows = {box.replace("_", "-"): "SUCCEEDED" for box in BOXES}
    rows |= {"check-inputs": ("SUCCEEDED", "rag-x-1", 9), "register-model": ("SUCCEEDED", "rag-x-2", 9)}
    rows |= {"evaluate-rag": ("SUCCEEDED", "rag-x-3", 9), "root-driver": "SUCCEEDED"}
    server.play(("RUNNING", rows))
    told = (f"I1121 ExecutorInput\n{START}\n", f"{DECISION}\n", f"metrics: {json.dumps(METRICS)}\n")
    server.logs |= {f"rag-x-system-container-impl-{number + 1}": log for number, log in enumerate(told)}
    text = summarize("COMPLETE", run_id, tmp_path / "a" / "summary", connection)
    assert text.startswith(f"# The run succeeded\n\n{START}\n\n{DECISION}\n")
    assert "EM              0.500    0.500   +0.000" in text
    assert "| register_model | succeeded | 9 |" in text


def test_a_run_on_a_cluster_that_failed_whatever_kfp_calls_its_state(server, connection, run_id, tmp_path):
    server.play(
        ("RUNNING", {"check-inputs": "SUCCEEDED", "finetune-rag": ("FAILED", "rag-x-9", 3), "evaluate-rag": "RUNNING"})
    )
    server.logs["rag-x-system-container-impl-9"] = FAILURE
    text = summarize("RUNNING", run_id, tmp_path / "a" / "summary", connection)
    assert text.startswith("# The run failed\n\nthe box finetune_rag failed: n_docs=9: the knowledge base has")
    assert "| check_inputs | succeeded | 2 |\n| finetune_rag | failed | 3 |\n| evaluate_rag | running |  |" in text


def test_where_kfps_api_refuses_the_pod_its_state_and_the_reason_are_left(server, connection, run_id, tmp_path):
    server.token = "of somebody else"
    text = summarize("FAILED", run_id, tmp_path / "a" / "summary", connection)
    assert text.startswith("# The run failed\n\nKFP's API tells this pod no more: ")
    assert "it does not know who asks" in text
