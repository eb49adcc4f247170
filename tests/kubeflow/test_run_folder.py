import json
import math
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ragtune.errors import RagtuneError, StorageError
from ragtune.kubeflow import run_folder
from ragtune.kubeflow.run_folder import box_folder, finish, new_folder, only_run, point_latest, summary

HOLD = "import sys; from pathlib import Path; from ragtune.kubeflow.run_folder import only_run\n"
HOLD += (
    "with only_run(Path(sys.argv[1])): Path(sys.argv[1], 'parameters.json').touch(); print('held', flush=True); input()"
)


@pytest.fixture
def other_run():
    """Start a process that holds a folder as its run's; its standard input ends it."""
    processes = []

    def start(folder):
        command = [sys.executable, "-c", HOLD, str(folder)]
        processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        assert processes[-1].stdout.readline() == "held\n"
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def refused(folder, message):
    before = sorted(folder.iterdir())
    with pytest.raises(StorageError, match=re.escape(message)), only_run(folder):
        pass
    assert sorted(folder.iterdir()) == before


def test_runs_that_begin_in_one_second_get_a_folder_each(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "strftime", lambda form: "2026-11-21-174757")
    names = [new_folder(tmp_path / "runs").name for _ in range(3)]
    assert names == ["2026-11-21-174757", "2026-11-21-174757-2", "2026-11-21-174757-3"]


def test_a_folder_in_which_a_run_is_under_way_is_refused_to_another(tmp_path, other_run):
    other_run(tmp_path / "run")
    refused(tmp_path / "run", "run: another run is under way there; wait for it, or give this one another --output")


def test_the_folder_of_a_killed_run_is_refused_with_the_way_out(tmp_path, other_run):
    process = other_run(tmp_path / "run")
    process.kill()
    process.wait()
    refused(tmp_path / "run", "run: holds a run that did not finish, see log.txt there. Remove the folder")


def test_the_folder_of_a_finished_run_is_refused(tmp_path):
    with only_run(tmp_path / "run"):
        (tmp_path / "run" / "metrics.json").touch()
    refused(tmp_path / "run", "run: holds a finished run; give this one another --output")


def test_a_folder_with_other_files_is_refused_and_left_as_it_is(tmp_path):
    (tmp_path / "thesis.txt").touch()
    refused(tmp_path, "holds other files; give an --output that is new or empty")


def test_an_empty_folder_is_taken_a_file_is_not(tmp_path):
    with only_run(tmp_path):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file: there is a file in the way"), only_run(tmp_path / "file"):
        pass


def test_a_run_cannot_be_called_as_the_link_is(tmp_path):
    with pytest.raises(StorageError, match="latest: this name is the link"), only_run(tmp_path / "latest"):
        pass


def test_latest_points_at_a_run_among_the_runs_and_at_no_other(tmp_path):
    runs, elsewhere = tmp_path / "runs", tmp_path / "elsewhere"
    for folder in (runs / "first", runs / "second", elsewhere):
        folder.mkdir(parents=True)
    point_latest(runs / "first", runs)
    point_latest(runs / "second", runs)
    point_latest(elsewhere, runs)
    assert (runs / "latest").readlink() == Path("second")
    assert list(elsewhere.iterdir()) == []


def write_box(run, box, outputs):
    folder = run / "boxes" / "first" / box.replace("_", "-")
    folder.mkdir(parents=True)
    (folder / "executor_output.json").write_text(json.dumps(outputs))
    return folder


def test_a_run_that_had_nothing_to_train_is_finished_with_its_summary(tmp_path):
    write_box(tmp_path, "check_inputs", {"parameterValues": {"Output": "skip"}})
    (write_box(tmp_path, "summarize_run", {}) / "summary").write_text("unchanged: version 3 came from the same")
    figures = finish(tmp_path, tmp_path / "boxes", {"check_inputs": 1.5})
    assert (
        figures == json.loads((tmp_path / "metrics.json").read_text()) == {"unchanged": 1, "seconds_check_inputs": 1.5}
    )
    assert summary(figures, tmp_path) == "unchanged: version 3 came from the same"
    assert (tmp_path / "summary.md").read_text() == summary(figures, tmp_path)


def test_a_box_that_never_ran_is_named(tmp_path):
    with pytest.raises(RagtuneError, match="no outputs of finetune_rag"):
        box_folder(tmp_path, "finetune_rag")


def test_the_metrics_of_a_run_are_strict_json_whatever_a_box_logged(tmp_path, monkeypatch):
    logged = {
        "filter_questions": {"questions_kept": 5, "questions_rejected": 1},
        "split_passages": {"passages": 7},
        "finetune_rag": {"loss": math.inf},
        "evaluate_rag": {"em_after": 0.5},  # of the figures that its own file holds
    }
    for box in (*logged, "ingest_passages", "register_model", "check_inputs", "summarize_run"):
        outputs = {"artifacts": {"metrics": {"artifacts": [{"metadata": logged.get(box, {})}]}}}
        write_box(tmp_path, box, outputs | {"parameterValues": {"Output": "train"}})
    (evaluation := tmp_path / "boxes" / "first" / "evaluate-rag" / "evaluation").mkdir()
    (evaluation / "metrics.json").write_text('{"em_after": 0.5, "f1_after": null}')
    monkeypatch.setattr(run_folder, "report_from_folder", lambda *args: None)  # of no matter here
    finish(tmp_path, tmp_path / "boxes", {"finetune_rag": math.nan})
    metrics = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert (metrics["training_loss"], metrics["f1_after"], metrics["seconds_finetune_rag"]) == (None, None, None)
    assert (metrics["em_after"], metrics["passages"]) == (0.5, 7)


def test_the_summary_shows_before_after_and_change(tmp_path):
    figures = {"em_before": 0.25, "em_after": 0.75, "f1_before": 0.3, "f1_after": 0.8}
    figures |= {"recall@5_before": 0.9, "recall@5_after": 1.0, "em_closed_book": 0.1}
    lines = summary(figures, tmp_path).splitlines()
    assert lines[1].split() == ["EM", "0.250", "0.750", "+0.500"]
    assert lines[4].split()[-1] == "0.100"
    assert str(tmp_path / "report.html") in lines[-2]
