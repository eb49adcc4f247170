import json

import pytest


@pytest.fixture
def make_run(tmp_path):
    """A model folder and an evaluation folder of 200 questions, the first `right` of them answered right."""

    def make(right, name="run"):
        model, evaluation = tmp_path / name / "model", tmp_path / name / "evaluation"
        (model / "generator").mkdir(parents=True)
        (model / "generator" / "model.safetensors").write_text(f"weights of {name}")
        lineage = {
            "knowledge_base": {"version": "kb_v1", "content_hash": "ab12"},
            "parameters": {"learning_rate": 3e-5},
            "image": "registry/ragtune-train@sha256:12",
            "git_revision": "abc123",
        }
        (model / "ragtune.json").write_text(json.dumps({"format": 1, "config": {"n_docs": 5}, "lineage": lineage}))
        evaluation.mkdir()
        metrics = {"em_before": 0.1, "em_after": right / 200, "recall@5_after": 0.9, "test_questions": 200}
        (evaluation / "metrics.json").write_text(json.dumps(metrics))
        with open(evaluation / "predictions.jsonl", "w") as stream:
            for number in range(200):
                row = {"question": f"What is {number}?", "answers": ["yes"], "em_before": float(number < 20)}
                row |= {"prediction_after": "yes" if number < right else "no", "em_after": float(number < right)}
                stream.write(json.dumps(row) + "\n")
        return model, evaluation

    return make
