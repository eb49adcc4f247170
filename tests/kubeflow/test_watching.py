import threading

import pytest

from ragtune.errors import ClusterError
from ragtune.kubeflow import watching
from ragtune.kubeflow.client import stop, submit
from ragtune.kubeflow.package import upload
from ragtune.kubeflow.watching import wait

BOXES = ["check-inputs", "finetune-rag", "evaluate-rag"]
PARAMETERS = {"questions": "q", "corpus": "c"}
LOG = """I1121 driver.go:1 ExecutorInput
Traceback (most recent call last):
  File "x.py", line 1, in <module>
ragtune.errors.TrainingError: gpus=1: the pod has no GPU; give gpus=0
F1121 main.go:49 failed to execute component: exit status 1
"""


@pytest.fixture
def run_id(package, connection):
    return submit(connection, upload(connection, package), PARAMETERS, "a", "one")


def watch(connection, run_id, **options):
    lines = []
    try:
        return wait(connection, run_id, BOXES, lines.append, every=0.01, **options), lines
    except ClusterError as error:
        return str(error), lines


def test_a_line_per_box_and_the_metrics_at_the_end(server, connection, run_id):
    server.play(
        ("PENDING", {}),
        ("RUNNING", {"root-driver": "SUCCEEDED", "check-inputs": "RUNNING"}),
        ("RUNNING", {"check-inputs": "SUCCEEDED", "finetune-rag": "RUNNING"}),
        ("SUCCEEDED", {**dict.fromkeys(BOXES[:2], "SUCCEEDED"), "evaluate-rag": ("SUCCEEDED", "rag-x7-123", 65)}),
    )
    server.logs["rag-x7-system-container-impl-123"] = 'metrics: {"em": 1}\nmetrics: {"em_after": 0.7}\nbye\n'
    metrics, lines = watch(connection, run_id)
    assert metrics == {"em_after": 0.7}
    assert [line.split() for line in lines[:-1]] == [
        ["[1/3]", "check_inputs", "…", "running"],
        ["[1/3]", "check_inputs", "2.0", "s", "succeeded"],
        ["[2/3]", "finetune_rag", "…", "running"],
        ["[2/3]", "finetune_rag", "2.0", "s", "succeeded"],
        ["[3/3]", "evaluate_rag", "65.0", "s", "succeeded"],
    ]
    assert run_id in lines[-1] and "succeeded" in lines[-1]


def test_a_box_that_takes_long_is_said_to_wait_perhaps_with_the_command_that_tells(
    server, connection, run_id, monkeypatch
):
    monkeypatch.setattr(watching, "_LONG", 0.0)
    server.play(*[("RUNNING", {"check-inputs": "RUNNING"})] * 3, ("SUCCEEDED", dict.fromkeys(BOXES, "SUCCEEDED")))
    _, lines = watch(connection, run_id)
    (hint,) = [line for line in lines if "kubectl" in line]
    assert f"GPUs or volume? `kubectl describe pods -n kubeflow -l pipeline/runid={run_id}`" in hint


def test_metrics_that_cannot_be_had_are_said_to_be(server, connection, run_id):
    server.play(("SUCCEEDED", {"evaluate-rag": ("SUCCEEDED", "rag-x7-9", 3)}))
    server.logs["rag-x7-system-container-impl-9"] = 'metrics: of another library\nmetrics: {"em_af'
    metrics, lines = watch(connection, run_id)
    assert metrics == {}
    assert "KFP's API has none" in lines[1]


def test_a_run_that_had_nothing_to_train_says_so_in_place_of_metrics(server, connection, run_id):
    server.play(("SUCCEEDED", {"check-inputs": ("SUCCEEDED", "rag-x7-9", 3)}))
    server.logs["rag-x7-system-container-impl-9"] = (
        "I1121 driver.go:1\nunchanged: these sources led to version 3 of qa\n"
    )
    metrics, lines = watch(connection, run_id)
    assert metrics == {}
    assert lines[1] == "unchanged: these sources led to version 3 of qa" and "succeeded" in lines[2]


def test_a_failed_run_names_the_box_and_what_ended_it(server, connection, run_id):
    server.play(("FAILED", {"check-inputs": "SUCCEEDED", "finetune-rag": ("FAILED", "rag-x7-9", 3)}))
    server.logs["rag-x7-system-container-impl-9"] = LOG
    told, lines = watch(connection, run_id)
    assert "FAILED; the box finetune_rag failed: gpus=1: the pod has no GPU; give gpus=0. See http" in told
    assert lines[-1].endswith("failed")


def test_a_box_that_could_not_start_or_left_no_log_is_named_too(server, connection, run_id):
    server.play(("FAILED", {"check-inputs-driver": "FAILED"}))
    assert "the box check_inputs could not start" in watch(connection, run_id)[0]
    server.play(("FAILED", {"finetune-rag": ("FAILED", "rag-x7-9", 3)}))
    assert "the box finetune_rag failed: neither KFP's API nor its pod's log tells why" in watch(connection, run_id)[0]
    server.logs["rag-x7-system-container-impl-9"] = "epoch 1\nepoch 2\n\n"
    assert "so most often the memory ran out; its last line: epoch 2" in watch(connection, run_id)[0]
    server.play(("FAILED", {}))
    assert "names no box that failed" in watch(connection, run_id)[0]


@pytest.mark.parametrize("state", ["CANCELED", "SKIPPED"])
def test_waiting_ends_on_every_end(server, connection, run_id, state):
    server.play(("RUNNING", {}), (state, {}))
    assert state in watch(connection, run_id)[0]


def test_a_run_that_somebody_stops_ends_the_waiting(server, connection, run_id):
    server.play(("RUNNING", {}))
    stopper = threading.Timer(0.05, stop, (connection, run_id))
    stopper.start()
    assert "was stopped by somebody (CANCELED)" in watch(connection, run_id)[0]
    stopper.join()


def test_a_server_that_is_gone_for_a_while_does_not_end_the_waiting(server, connection, run_id, monkeypatch):
    server.play(("SUCCEEDED", {}))
    server.faults[f"GET /apis/v2beta1/runs/{run_id}"] = (503, "upstream connect error")
    threading.Timer(0.1, server.faults.clear).start()
    assert watch(connection, run_id)[0] == {}
    server.faults[f"GET /apis/v2beta1/runs/{run_id}"] = (503, "upstream connect error")
    monkeypatch.setattr("ragtune.kubeflow.watching._PATIENCE", 0.05)
    assert "answered 503, upstream connect error" in watch(connection, run_id)[0]


def test_what_ends_the_waiting_alone_says_that_the_run_goes_on(server, connection, run_id):
    server.play(("RUNNING", {}))
    assert (
        f"has not ended in 0.05 s; the run goes on; watch it with `python pipeline.py runs {run_id} --wait`"
        in (watch(connection, run_id, longest=0.05)[0])
    )
    server.token = "of another day"
    assert "the run goes on" in watch(connection, run_id)[0]
