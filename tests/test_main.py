import json
import shutil
import subprocess
import sys

import pyarrow as pa
import pytest
import torch
from tiny_models import save_tiny_parts

from ragtune.__main__ import main
from ragtune.knowledge.knowledge_base import ingest_passages
from ragtune.knowledge.passages import Passages
from ragtune.models.checkpoint import load_model, save_model
from ragtune.models.encoders import Encoder
from ragtune.models.rag import RagConfig, RagModel

QUESTION = "what is the capital of land3"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A model that knows its knowledge base, and one that knows none."""
    folder = tmp_path_factory.mktemp("world")
    texts = [f"The capital of land{n} is city{n}. {'It is a large city. ' * 30}" for n in range(8)]
    table = pa.table({"id": [f"w{n}" for n in range(8)], "title": [f"Land{n}" for n in range(8)], "text": texts})
    Passages(table).save(folder / "passages.parquet")
    parts = save_tiny_parts(folder / "parts", [*texts, QUESTION])
    ingest_passages(folder / "passages.parquet", folder / "kb", Encoder.from_pretrained(parts[1], "passage"))
    model = RagModel.from_parts(*parts, RagConfig(n_docs=3, temperature=4.0))
    save_model(model, folder / "model", {"knowledge_base": {"path": str(folder / "kb"), "version": "kb_v1"}})
    save_model(model, folder / "model_without")
    return folder


def test_the_answer_comes_with_its_passages_and_their_probabilities(world, capsys):
    assert main(["ask", "--model", str(world / "model"), "--json", QUESTION]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["question"] == QUESTION and isinstance(answer["answer"], str)
    assert len(answer["passages"]) == 3
    probabilities = [passage["probability"] for passage in answer["passages"]]
    assert sum(probabilities) == pytest.approx(1)
    assert probabilities == sorted(probabilities, reverse=True)
    for passage in answer["passages"]:
        assert passage["title"] == f"Land{passage['id'][1:]}" and passage["text"].startswith("The capital of land")


def test_people_get_a_table(world, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["ask", "--model", str(world / "model"), QUESTION]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:3] == ["", "p(z|x)  passage"]
    assert sum(": The capital of land" in line for line in lines) == 3
    assert max(map(len, lines[1:])) <= 80  # the answer itself is one line, as long as it is
    assert any(line.endswith("…") for line in lines)


def test_the_knowledge_base_can_be_named(world, capsys):
    arguments = ["ask", "--model", str(world / "model_without"), "--knowledge-base", str(world / "kb"), QUESTION]
    assert main(arguments) == 0
    assert "p(z|x)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "model_without", QUESTION], "names no knowledge base; give one with --knowledge-base"),
        (["--model", "nowhere", QUESTION], "nowhere/ragtune.json: missing, so this is no ragtune model"),
        (["--model", "model", "--knowledge-base", "parts", QUESTION], "no knowledge base there"),
        (["--model", "model", " "], "the question is empty"),
    ],
)
def test_an_error_is_one_line_on_stderr(world, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(world)
    assert main(["ask", *arguments]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("ragtune: ") and output.err.count("\n") == 1
    assert message in output.err


def test_a_knowledge_base_that_is_gone_is_an_error(world, capsys, tmp_path):
    shutil.copytree(world / "model", tmp_path / "model")
    description = json.loads((tmp_path / "model" / "ragtune.json").read_text())
    description["lineage"]["knowledge_base"]["path"] = str(tmp_path / "gone")
    (tmp_path / "model" / "ragtune.json").write_text(json.dumps(description))
    assert main(["ask", "--model", str(tmp_path / "model"), QUESTION]) == 1
    assert "the knowledge base of" in capsys.readouterr().err


def test_the_command_says_nothing_but_the_answer(world):
    command = [sys.executable, "-m", "ragtune", "ask", "--model", str(world / "model"), QUESTION]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stderr == ""
    assert "p(z|x)  passage" in done.stdout


def test_export_loads_in_hugging_face_with_the_same_weights(world, tmp_path):
    from transformers import RagSequenceForGeneration

    ours = load_model(world / "model")
    ours.config.temperature = 1.0  # theirs know no other
    save_model(ours, tmp_path / "model")
    assert main(["export", "--model", str(tmp_path / "model"), "--output", str(tmp_path / "rag")]) == 0
    theirs = RagSequenceForGeneration.from_pretrained(tmp_path / "rag")
    assert torch.equal(theirs.generator.lm_head.weight, ours.generator.lm_head.weight)
    for mine, other in zip(
        ours.question_encoder.backbone.parameters(), theirs.rag.question_encoder.parameters(), strict=True
    ):
        assert torch.equal(mine, other)


def test_exporting_what_is_no_model_is_one_line_of_error(tmp_path, capsys):
    assert main(["export", "--model", str(tmp_path), "--output", str(tmp_path / "rag")]) == 1
    assert str(tmp_path) in capsys.readouterr().err
    assert not (tmp_path / "rag").exists()
