"""The ten boxes, run for real by kfp.local on a short run of the bundled sample."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

import pipeline
from ragtune.__main__ import main as ragtune
from ragtune.knowledge.pointers import resolve
from ragtune.kubeflow.run_folder import box_folder, box_metrics
from ragtune.models.encoders import Encoder

ROOT = Path(__file__).parents[2]
BOXES = [
    "check_inputs",
    "filter_questions",
    "split_passages",
    "ingest_passages",
    "check_answerability",
    "tokenize_pairs",
    "finetune_rag",
    "evaluate_rag",
    "register_model",
    "summarize_run",
]
SHORT = {
    "max_questions": 200,
    "max_test_questions": 40,
    "max_steps": 4,
    "eval_steps": 2,
    "closed_book_steps": 4,
    "batch_size": 8,
    "training_options": '{"max_eval_questions": 20}',
}


def words(folder: Path, output: str, **parameters) -> list[str]:
    """The arguments of `pipeline.py` for a short run."""
    values = {**SHORT, "workspace": folder / "workspace", **parameters}
    sets = [part for name, value in values.items() for part in ("--set", f"{name}={value}")]
    return ["run", "--params", "params/demo.yaml", "--output", str(folder / output), *map(str, sets)]


def start(folder: Path, output: str, **parameters) -> subprocess.CompletedProcess:
    command = [sys.executable, "pipeline.py", *words(folder, output, **parameters)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture
def refused(monkeypatch, capsys):
    """The errors of `pipeline.py run`, called in this process, for runs that never begin."""
    monkeypatch.chdir(ROOT)

    def start_here(folder: Path, output: str, **parameters) -> str:
        assert pipeline.main(words(folder, output, **parameters)) == 1
        return capsys.readouterr().err

    return start_here


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Path, str]:
    folder, latest = tmp_path_factory.mktemp("run"), ROOT / "runs" / "latest"
    stood = latest.readlink() if latest.is_symlink() else None
    result = start(folder, "first", promote="force")  # so short a training on 40 questions would be a baseline
    assert result.returncode == 0, result.stdout + result.stderr
    assert (latest.readlink() if latest.is_symlink() else None) == stood  # a run elsewhere leaves it to the user's own
    return folder / "first", result.stdout


def test_every_box_shows_a_line_and_leaves_its_outputs(run):
    folder, printed = run
    lines = [line for line in printed.splitlines() if line.startswith("[") and " s " in line]
    assert sorted(line.split()[1] for line in lines) == sorted(BOXES)
    for box in BOXES:
        assert (box_folder(folder / "boxes", box) / "executor_output.json").exists()


def test_the_table_at_the_end_has_before_and_after(run):
    folder, printed = run
    figures = json.loads((folder / "metrics.json").read_text())
    for label, name in {"EM": "em", "F1": "f1", "recall@5": "recall@5"}.items():
        row = next(line.split() for line in printed.splitlines() if line.startswith(f"{label} "))
        assert row[1:3] == [f"{figures[f'{name}_{moment}']:.3f}" for moment in ("before", "after")]
    assert f"{folder / 'report.html'}" in printed


def test_metrics_hold_every_figure_as_a_fraction(run):
    figures = json.loads((run[0] / "metrics.json").read_text())
    names = ["em", "f1", "rouge1", "rouge2", "rougeL", "recall@1", "recall@5", "recall@20", "mrr@10"]
    for prefix in ("", "answerable_"):
        for name in names:
            for moment in ("before", "after"):
                assert 0 <= figures[f"{prefix}{name}_{moment}"] <= 1
        assert 0 <= figures[f"{prefix}em_closed_book"] <= 1
    assert figures["questions_kept"] > 200
    assert figures["questions_rejected"] > 0
    assert figures["passages"] > 300
    assert {f"seconds_{box}" for box in BOXES} <= figures.keys()


def test_questions_that_cannot_be_used_are_rejected_with_file_line_and_reason(run):
    path = box_folder(run[0] / "boxes", "filter_questions") / "rejected"
    rejected = [json.loads(line) for line in path.read_text().splitlines()]
    assert {"yes_no", "long_only", "malformed"} <= {row["reason"] for row in rejected}
    assert all(row["file"] and row["line"] > 0 for row in rejected)


def test_the_model_is_registered_and_champion_as_the_run_wants_it(run):
    figures = box_metrics(run[0] / "boxes", "register_model")
    assert figures == {"version": 1, "champion": 1}
    assert "version 1 of ragtune-demo: forced, although against its own base" in (run[0] / "log.txt").read_text()


def test_a_run_that_would_lead_to_the_same_model_ends_early_and_says_so(run):
    folder, _ = run
    result = start(folder.parent, "unchanged", promote="force", when_unchanged="skip", data_memory="1Gi")
    assert result.returncode == 0, result.stdout + result.stderr
    boxes = [line.split()[1] for line in result.stdout.splitlines() if line.startswith("[") and " s " in line]
    assert boxes == ["check_inputs", "summarize_run"]
    assert "# The run was not needed" in result.stdout
    assert "led to version 1 of ragtune-demo, the champion (when_unchanged=skip)" in result.stdout
    assert json.loads((folder.parent / "unchanged" / "metrics.json").read_text())["unchanged"] == 1


def test_a_summary_is_beside_the_report(run):
    summary = (run[0] / "summary.md").read_text()
    assert "# The run succeeded" in summary and "version 1 of ragtune-demo: forced" in summary


def test_a_second_run_into_the_same_folder_is_refused(run, refused):
    folder, _ = run
    stood = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert f"error: {folder}: holds a finished run" in refused(folder.parent, "first", seed=1)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == stood


def test_ask_answers_from_the_run_folder(run, capsys):
    assert ragtune(["ask", "--json", "--model", str(run[0] / "model"), "what is the capital of Norway ?"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert len(answer["passages"]) == 5
    assert sum(passage["probability"] for passage in answer["passages"]) == pytest.approx(1, abs=1e-4)


@pytest.fixture(scope="module")
def second(run) -> Path:
    """In the same workspace, from the first one's model, with the passage encoder trained too."""
    sets = {"method": "rag-end2end", "max_steps": 3, "refresh_every": 1, "max_staleness": 1, "start_from": "champion"}
    sets["tracking_uri"] = f"sqlite:///{run[0].parent}/workspace/mlflow.db"  # where it is without this, too
    result = start(run[0].parent, "second", closed_book_steps=0, **sets)
    assert result.returncode == 0, result.stdout + result.stderr
    return run[0].parent / "second"


def test_further_options_reach_the_training(run):
    lineage = json.loads((run[0] / "model" / "ragtune.json").read_text())["lineage"]
    assert lineage["parameters"]["max_eval_questions"] == 20


def test_the_curves_go_to_mlflow_where_it_is_named(second):
    client = MlflowClient(f"sqlite:///{second.parent}/workspace/mlflow.db")
    (curves,) = client.search_runs([client.get_experiment_by_name("ragtune-training").experiment_id])
    assert [point.step for point in client.get_metric_history(curves.info.run_id, "staleness")] == [1, 3]


def test_a_second_run_is_compared_with_the_champion_of_the_first(run, second):
    first, next_one = (json.loads((folder / "metrics.json").read_text()) for folder in (run[0], second))
    assert next_one["em_champion"] == first["em_after"]  # the same questions, model and knowledge base
    assert next_one["recall@5_champion"] == first["recall@5_after"]
    assert box_metrics(second / "boxes", "register_model") == {"version": 2, "champion": 0}
    assert "fewer questions than min_test_questions=100" in (second / "log.txt").read_text()
    assert "The champion, version 1, was asked the same questions" in (second / "report.html").read_text()


def test_a_second_run_starts_from_the_champion(run, second):
    champion = run[0].parent / "workspace" / "models" / "ragtune-demo"
    assert f"starts from the champion, version 1 of ragtune-demo, {champion}/" in (second / "log.txt").read_text()
    start, first = (json.loads((folder / "model" / "ragtune.json").read_text()) for folder in (second, run[0]))
    assert start["lineage"]["base_model"]["question_encoder"] == first["encoders"]["question"]["fingerprint"]
    assert start["lineage"]["base_model"] != first["lineage"]["base_model"]
    figures = json.loads((second / "metrics.json").read_text())
    assert figures["em_before"] == figures["em_champion"]  # one model, on one knowledge base
    assert "ragtune-demo, trained further" in (second / "report.html").read_text()
    asked = [set(np.load(folder / "model" / "learnt_questions.npy").tolist()) for folder in (run[0], second)]
    assert asked[0] <= asked[1]


def test_what_starts_from_a_trained_passage_encoder_gets_a_knowledge_base_of_that(second):
    """`ingest_passages` is given the folder of the champion's own passage encoder."""
    encoder = Encoder.from_pretrained(second / "model" / "passage_encoder", role="passage")
    assert encoder.fingerprint == resolve(second / "knowledge_base")[1].encoder_fingerprint


def test_a_second_run_writes_no_passage_again(second):
    figures = box_metrics(second / "boxes", "ingest_passages")
    assert (figures["written"], figures["embedded"]) == (0, 0)


def test_a_trained_passage_encoder_gets_a_knowledge_base_that_evaluation_and_ask_use(run, second, capsys):
    before, after = (resolve(folder / "knowledge_base") for folder in (run[0], second))
    assert before[0].parent.name == "demo"
    assert after[0].parent.name.startswith("demo-")
    assert json.loads((second / "model" / "ragtune.json").read_text())["lineage"]["knowledge_base"]["path"] == str(
        after[0].parent
    )
    assert before[1].encoder_fingerprint != after[1].encoder_fingerprint
    facts = json.loads((box_folder(second / "boxes", "evaluate_rag") / "evaluation" / "facts.json").read_text())
    assert facts["knowledge_base"]["encoder_fingerprint"] == after[1].encoder_fingerprint
    assert json.loads((second / "metrics.json").read_text())["training_refreshes"] >= 1
    assert ragtune(["ask", "--json", "--model", str(second / "model"), "who ?"]) == 0, capsys.readouterr()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"questions": "nowhere.jsonl"}, "error: nowhere.jsonl: no such file"),
        ({"generator": "tests"}, "error: tests: no config.json"),
        ({"milvus_uri": "http://127.0.0.1:9"}, "error: http://127.0.0.1:9: no Milvus answers there"),
    ],
)
def test_what_is_not_there_is_told_before_a_run_begins(tmp_path, refused, parameters, message):
    told = refused(tmp_path, "bad", **parameters)
    assert message in told
    assert "Traceback" not in told
    assert not (tmp_path / "bad").exists()


def test_a_box_that_fails_ends_the_run_with_its_name_and_nothing_half_written(tmp_path):
    result = start(tmp_path, "bad", corpus="/dev/null")
    assert result.returncode == 1
    assert "error: split_passages: /dev/null" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "bad" / "metrics.json").exists()
    assert "the box split_passages failed: /dev/null" in (tmp_path / "bad" / "log.txt").read_text()  # the summary, too
