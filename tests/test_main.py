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
