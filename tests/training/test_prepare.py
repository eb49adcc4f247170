"""The base model of a run, and what is known to be wrong before anything is trained; whole runs are in test_run.py."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from ragtune.errors import ModelError, ParameterError, TrainingError
from ragtune.models.checkpoint import save_model
from ragtune.models.rag import RagConfig, RagModel
from ragtune.training.arguments import RagTrainingArguments
from ragtune.training.pairs import open_pairs
from ragtune.training.prepare import _check_writable, base_model


@pytest.fixture(scope="module")
def pairs(still_world):
    return open_pairs(still_world.pairs)


def arguments(**parameters):
    return RagTrainingArguments(output_dir="run", report_to="none", max_steps=1, **parameters)


def files(still_world, **given):
    empty = {"model_folder": "", "trust_remote_code": False}
    return SimpleNamespace(**empty | still_world.parts | given)


def test_parts_get_the_runs_settings_and_the_pairs_lengths(still_world, pairs):
    args = arguments(method="rag-token", n_docs=3)
    config = base_model(files(still_world), args, pairs).config
    assert (config.marginalization, config.n_docs, config.temperature) == ("token", 3, RagConfig().temperature)
    assert config.max_question_tokens == pairs.max_question_tokens
    assert args.temperature == config.temperature  # what the fingerprint is made of


@pytest.fixture(scope="module")
def folder(still_world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "model"
    config = RagConfig(n_docs=2, temperature=0.25, marginalization="sequence")
    save_model(RagModel.from_parts(*still_world.parts.values(), config), folder)
    return str(folder)


def test_a_model_folder_keeps_its_settings_and_what_differs_is_told(still_world, pairs, folder, capsys):
    further = files(still_world, model_folder=folder)
    config = base_model(further, arguments(method="rag-token", n_docs=4), pairs).config
    assert (config.temperature, config.n_docs, config.marginalization) == (0.25, 4, "token")
    told = capsys.readouterr().err
    assert "is trained further with n_docs=4 instead of 2, marginalization=token (method=rag-token) instead of" in told
    base_model(further, arguments(n_docs=4), pairs, tells=False)
    base_model(further, arguments(), pairs)
    assert "trained further" not in capsys.readouterr().err


def test_the_attention_is_that_which_is_asked_for(still_world, pairs):
    given = {"attn_implementation": "eager", "encoder_attn_implementation": "sdpa"}
    model = base_model(files(still_world), arguments(**given), pairs)
    kinds = [part.backbone.config._attn_implementation for part in (model.generator, model.question_encoder)]
    assert kinds == ["eager", "sdpa"]
    swapped = arguments(attn_implementation="sdpa", encoder_attn_implementation="eager")
    model = base_model(files(still_world), swapped, pairs)
    parts = (model.generator, model.question_encoder, model.passage_encoder)
    assert [part.backbone.config._attn_implementation for part in parts] == ["sdpa", "eager", "eager"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"attn_implementation": "flash_attention_2"},
            r"^attn_implementation=flash_attention_2: computes in bf16 alone",
        ),
        (
            {"attn_implementation": "flash_attention_2", "bf16": True},
            r"attn_implementation: .*generator: cannot compute with flash_attention_2 \(T5.* does not support Flash "
            r"Attention 2 yet\); install its package, or take an attention that T5ForConditionalGeneration has",
        ),
    ],
)
def test_an_attention_that_cannot_be_had_is_told_with_the_way_out(still_world, pairs, given, message):
    with pytest.raises((TrainingError, ModelError), match=message):
        base_model(files(still_world), arguments(**given), pairs)


def test_a_kernel_of_the_hub_which_is_code_is_no_attention():
    with pytest.raises(ParameterError, match="attn_implementation"):
        arguments(attn_implementation="kernels-community/flash-attn")


def test_prompts_longer_than_the_generator_has_positions_are_refused(still_world, pairs, tmp_path):
    generator = Path(shutil.copytree(still_world.parts["generator"], tmp_path / "generator"))
    config = json.loads((generator / "config.json").read_text())  # of T5, whose positions are distances
    (generator / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 299}))
    with pytest.raises(ModelError, match=r"max_input_tokens=300 need 300: lower max_input_tokens to 299 or less"):
        base_model(files(still_world, generator=str(generator)), arguments(), pairs)


def test_a_place_that_cannot_be_written_is_known_before_training(tmp_path):
    _check_writable(tmp_path / "new" / "model")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match=r"file/model: cannot be written .*; choose another folder"):
        _check_writable(tmp_path / "file" / "model")
