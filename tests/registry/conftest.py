import json
import shutil

import pytest


@pytest.fixture
def make_run(tmp_path):
    """A model folder and an evaluation folder of 200 questions, the first `right` of them answered right.

    The base answers 20 of them; `champion` is the version that was asked too, and how many it answers.
    """

    def make(right, name="run", champion=None):
        model, evaluation = tmp_path / name / "model", tmp_path / name / "evaluation"
        if not model.exists():
            make_model(model, name)
        evaluation.mkdir(exist_ok=True)
        facts = {"champion": {"version": champion[0], "problem": ""} if champion else {}}
        (evaluation / "facts.json").write_text(json.dumps(facts))
        metrics = {"em_before": 0.1, "em_after": right / 200, "recall@5_after": 0.9, "test_questions": 200}
        (evaluation / "metrics.json").write_text(json.dumps(metrics))
        with open(evaluation / "predictions.jsonl", "w") as stream:
            for number in range(200):
                row = {
                    "question": f"What is {number}?",
                    "group": number,
                    "answers": ["yes"],
                    "em_before": float(number < 20),
                }
                row |= {"prediction_after": "yes" if number < right else "no", "em_after": float(number < right)}
                row |= {"em_champion": float(number < champion[1])} if champion else {}
                stream.write(json.dumps(row) + "\n")
        return model, evaluation

    def make_model(model, name):
        (model / "generator").mkdir(parents=True)
        (model / "generator" / "model.safetensors").write_text(f"weights of {name}")
        lineage = {
            "knowledge_base": {"version": "kb_v1", "content_hash": "ab12"},
            "parameters": {"learning_rate": 3e-5},
            "image": "registry/ragtune-train@sha256:12",
            "git_revision": "abc123",
        }
        (model / "ragtune.json").write_text(json.dumps({"format": 1, "config": {"n_docs": 5}, "lineage": lineage}))

    return make


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """A database with MLflow's tables: making them takes two seconds, copying them none."""
    pytest.importorskip("mlflow")
    from ragtune.registry.connection import connected

    folder = tmp_path_factory.mktemp("mlflow")
    with connected(f"sqlite:///{folder}/mlflow.db") as client:
        client.search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def tracking_uri(empty_database, tmp_path):
    folder = tmp_path / "registry"
    folder.mkdir()
    shutil.copy(empty_database, folder)
    return f"sqlite:///{folder}/mlflow.db"
