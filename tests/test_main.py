import json

import pytest
import torch
from tiny_models import save_tiny_parts

from ragtune.__main__ import main
from ragtune.models.checkpoint import load_model, save_model
from ragtune.models.rag import RagConfig, RagModel


def test_export_loads_in_hugging_face_with_the_same_weights(tmp_path):
    from transformers import RagSequenceForGeneration

    parts = save_tiny_parts(tmp_path / "parts", ["what is the capital of land3"])
    save_model(RagModel.from_parts(*parts, RagConfig()), tmp_path / "model")
    ours = load_model(tmp_path / "model")
    assert main(["export", "--model", str(tmp_path / "model"), "--output", str(tmp_path / "rag")]) == 0
    theirs = RagSequenceForGeneration.from_pretrained(tmp_path / "rag")
    assert torch.equal(theirs.generator.lm_head.weight, ours.generator.backbone.lm_head.weight)
    for mine, other in zip(
        ours.question_encoder.backbone.parameters(), theirs.rag.question_encoder.parameters(), strict=True
    ):
        assert torch.equal(mine, other)


def test_exporting_what_is_no_model_is_one_line_of_error(tmp_path, capsys):
    assert main(["export", "--model", str(tmp_path), "--output", str(tmp_path / "rag")]) == 1
    assert str(tmp_path) in capsys.readouterr().err
    assert not (tmp_path / "rag").exists()


def test_runs_become_the_arms_of_an_ablation(tmp_path, capsys):
    for name, right, generator in (("ralt", 10, 0.1), ("rag", 30, 0.1)):
        folder = tmp_path / name
        folder.mkdir()
        encoder = 0.1 if name == "rag" else 0.0
        moved = {"moved_question_encoder": encoder, "moved_passage_encoder": 0.0, "moved_generator": generator}
        (folder / "metrics.json").write_text(json.dumps(moved))
        rows = [
            {"id": str(n), "question": "?", "group": n, "em_before": 0.0, "recall@1_before": 1.0}
            | {"em_after": float(n < right), "recall@1_after": 1.0}
            for n in range(40)
        ]
        (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = str(tmp_path / "ablation.html")
    arms = [f"{name}={tmp_path / name}" for name in ("ralt", "rag")]
    assert main(["ablation", *arms, "--output", output]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Training both parts is better than training one: rag answers 75.0")
    assert printed.splitlines()[0] in (tmp_path / "ablation.html").read_text()
    assert main(["ablation", f"rag={tmp_path}", "--output", output]) == 1
    assert f"{tmp_path}: predictions.jsonl and metrics.json" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["ablation", "runs/latest", "--output", output])
    assert "must be NAME=DIR" in capsys.readouterr().err
