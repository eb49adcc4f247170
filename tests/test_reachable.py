import json
import shutil
import socket
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml

from pipeline import rag_finetuning
from ragtune import reachable
from ragtune.errors import RagtuneError
from ragtune.kubeflow.parameters import with_defaults
from ragtune.reachable import check_reachable, model_fingerprint

ROOT = Path(__file__).parents[1]
BASE = ROOT / "ragtune" / "sample" / "base"
DEMO = yaml.safe_load((ROOT / "params" / "demo.yaml").read_text())


@pytest.fixture
def values(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(reachable, "_ANSWER_WITHIN_SECONDS", 0.5)
    return with_defaults(rag_finetuning.pipeline_func, {**DEMO, "workspace": str(tmp_path / "new" / "workspace")})


@pytest.fixture
def listener():
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        yield f"http://127.0.0.1:{server.server_port}"


@pytest.fixture
def nobody():
    """An address at which nothing listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


def message(values, **changed):
    with pytest.raises(RagtuneError) as raised:
        check_reachable({**values, **changed})
    return str(raised.value)


def test_what_is_there_passes_and_nothing_is_made(values, listener):
    check_reachable({**values, "milvus_uri": listener, "model_registry_url": listener})
    assert not Path(values["workspace"]).parent.exists()


@pytest.mark.parametrize("name", ["questions", "corpus", "validation_questions", "test_questions"])
def test_an_absent_source_is_named(values, name):
    assert "nowhere.jsonl: no such file" in message(values, **{name: "nowhere.jsonl"})


def test_a_dataset_that_the_hub_does_not_give_is_named(values):
    assert "hf://nobody/nothing" in message(values, questions="hf://nobody/nothing")


def test_milvus_and_registries_that_do_not_answer_are_named(values, nobody, monkeypatch):
    assert f"{nobody}: no Milvus answers there" in message(values, milvus_uri=nobody)
    assert f"{nobody}: no Kubeflow Model Registry answers" in message(values, model_registry_url=nobody)
    monkeypatch.setattr("ragtune.registry.connection._PROBE_LIMITS", {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"})
    assert f"{nobody}: cannot be reached" in message(values, tracking_uri=nobody)


def test_a_workspace_in_a_file_is_refused(values, tmp_path):
    (tmp_path / "file").touch()
    assert "nothing may be written in" in message(values, workspace=str(tmp_path / "file" / "workspace"))


def test_a_workspace_that_no_file_system_can_name_is_refused(values, tmp_path):
    with pytest.raises(RagtuneError, match="File name too long; choose another folder"):
        check_reachable({**values, "workspace": str(tmp_path / ("a" * 300))})


def test_model_names_that_are_none_are_refused(values):
    for name in ("question_encoder", "passage_encoder", "generator"):
        assert "nobody/nothing: " in message(values, **{name: "nobody/nothing"})
        assert "tests: no config.json" in message(values, **{name: "tests"})
    assert "no encoder. A sentence-transformers folder has" in message(values, question_encoder=str(BASE / "generator"))


@pytest.mark.parametrize("config", [{"model_type": "gpt2", "architectures": ["GPT2Model"]}, {"model_type": "vit"}])
def test_a_generator_that_writes_no_text_is_refused(values, config, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert "which writes no text: a generator is an encoder-decoder" in message(values, generator=str(tmp_path))


def test_swapped_dpr_encoders_are_told(values, tmp_path):
    config = {"model_type": "dpr", "architectures": ["DPRContextEncoder"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert "are the question and the passage encoder swapped?" in message(values, question_encoder=str(tmp_path))


def test_a_folder_without_tokenizer_or_weights_is_refused(values, tmp_path):
    shutil.copytree(BASE / "generator", tmp_path / "generator")
    (tmp_path / "generator" / "model.safetensors").unlink()
    assert "no weights as *.safetensors there" in message(values, generator=str(tmp_path / "generator"))
    (tmp_path / "generator" / "tokenizer.json").unlink()
    assert "tokenizer cannot be loaded" in message(values, generator=str(tmp_path / "generator"))


def test_a_model_is_told_by_its_files(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    before = model_fingerprint(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    assert model_fingerprint(str(tmp_path)) != before
    (tmp_path / "model.safetensors").unlink()
    assert model_fingerprint(str(tmp_path)) == before


def test_a_model_on_the_hub_is_told_by_its_commit(tmp_path, monkeypatch):
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = tmp_path / "models--owner--name" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    monkeypatch.setattr(reachable, "find_file", lambda name, file: snapshot / file)
    assert model_fingerprint("owner/name@main") == f"owner/name@{commit}"


def test_an_input_that_is_longer_than_the_generators_positions_is_refused(values):
    told = message(values, generator=str(BASE / "causal"), max_input_tokens=501, max_answer_tokens=12)
    assert "base/causal: has 512 positions, and max_input_tokens=501 and max_answer_tokens=12 need 513" in told
