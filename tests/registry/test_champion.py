import errno
import os
import tempfile
from pathlib import Path

import pytest

pytest.importorskip("mlflow")

from ragtune.errors import RegistryError, StorageError
from ragtune.files import content_hash
from ragtune.knowledge.manifest import MANIFEST, METRIC, Manifest, write_manifest
from ragtune.knowledge.pointers import resolve
from ragtune.registry.champion import champion_model, keep_champion, todays_champion
from ragtune.registry.connection import connected
from ragtune.registry.kept_models import kept_model
from ragtune.registry.mlflow import register

NAME = "countries"


def test_no_champion_is_an_error_for_those_who_ask_for_its_model(tracking_uri):
    with pytest.raises(RegistryError, match='no version of "countries" is champion'):
        champion_model(NAME, tracking_uri)


def test_no_champion_is_none_for_those_who_compare_with_it(tracking_uri):
    with todays_champion(NAME, tracking_uri) as champion:
        assert champion is None


def test_looking_for_a_champion_makes_no_database(tmp_path):
    with todays_champion(NAME, str(tmp_path)) as champion:
        assert champion is None
    assert list(tmp_path.iterdir()) == []


def test_the_champion_comes_with_its_model(make_run, tracking_uri):
    model, evaluation = make_run(100)
    register(model, evaluation, NAME, tracking_uri)
    with todays_champion(NAME, tracking_uri) as champion:
        assert (champion.version, champion.problem) == ("1", "")
        assert (champion.folder / "ragtune.json").read_text() == (model / "ragtune.json").read_text()


def test_a_model_that_cannot_be_had_is_told_with_its_place(tracking_uri):
    with connected(tracking_uri) as client:
        client.create_registered_model(NAME)
        gone = client.create_model_version(NAME, "models-elsewhere://bucket/1")
        client.set_registered_model_alias(NAME, "champion", gone.version)
    with todays_champion(NAME, tracking_uri) as champion:
        assert champion.folder is None
        assert champion.problem.startswith("models-elsewhere://bucket/1: cannot be downloaded")


def test_a_download_is_gone_after_the_block(make_run, log_model, tracking_uri):
    model, evaluation = make_run(100)
    register(model, evaluation, NAME, tracking_uri, model_uri=log_model(model, tracking_uri))
    with todays_champion(NAME, tracking_uri) as champion:
        folder = Path(champion.folder)
        assert (folder / "generator" / "model.safetensors").read_text() == "weights of run"
    assert not folder.exists()


def test_a_knowledge_base_that_the_registry_keeps_comes_with_the_champion(make_run, log_model, tracking_uri, tmp_path):
    model, evaluation = make_run(100)
    manifest = Manifest("kb_v3", "passages", "e", "f" * 64, 2, "float32", METRIC, "FLAT", 1, "ab12", "2026")
    write_manifest(manifest, tmp_path / "base" / "kb_v3" / MANIFEST)
    uri = log_model(model, tracking_uri)
    register(model, evaluation, NAME, tracking_uri, model_uri=uri, knowledge_base=tmp_path / "base" / "kb_v3")
    with todays_champion(NAME, tracking_uri) as champion:
        assert champion.folder != champion.knowledge_base
        assert resolve(champion.knowledge_base) == (champion.knowledge_base, manifest)


@pytest.fixture
def in_artifacts(make_run, log_model, tracking_uri):
    """The URI of a champion whose model is in a server's artifacts."""
    model, evaluation = make_run(100)
    uri = log_model(model, tracking_uri)
    register(model, evaluation, NAME, tracking_uri, model_uri=uri)
    return uri


def test_a_download_that_is_not_what_was_registered_is_no_champion(in_artifacts, tracking_uri, tmp_path):
    (weights,) = (tmp_path / "artifacts").rglob("model.safetensors")
    weights.write_text("other weights")
    kept = keep_champion(NAME, tracking_uri, tmp_path / "models")
    with todays_champion(NAME, tracking_uri) as today:
        assert kept == today
    assert (kept.version, kept.folder) == ("1", None)
    assert kept.problem.startswith(f"{in_artifacts}: not the files that were registered as version 1 (their hash")
    assert kept.problem.endswith("; put those back there")
    assert list((tmp_path / "models").iterdir()) == []


def test_a_download_without_a_hash_to_compare_it_with_is_kept_as_it_is(in_artifacts, tracking_uri, tmp_path):
    with connected(tracking_uri) as client:
        client.delete_model_version_tag(NAME, "1", "model_hash")
    kept = keep_champion(NAME, tracking_uri, tmp_path / "models")
    assert (kept.folder / "generator" / "model.safetensors").read_text() == "weights of run"
    assert kept.folder == kept_model(tmp_path / "models", content_hash(kept.folder))
    assert list((tmp_path / "models").iterdir()) == [kept.folder]


def test_a_place_that_may_not_be_written_is_told(in_artifacts, tracking_uri, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"file/models: cannot keep the champion \(Not a directory\); choose"):
        keep_champion(NAME, tracking_uri, tmp_path / "file" / "models")

    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)  # root may write into every real folder
    with pytest.raises(StorageError, match=r"models: may not be written \(Read-only file system\)"):
        keep_champion(NAME, tracking_uri, tmp_path / "models")


def test_a_champion_in_a_folder_needs_no_temporary_one(make_run, tracking_uri, monkeypatch):
    register(*make_run(100), NAME, tracking_uri)
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with todays_champion(NAME, tracking_uri) as champion:
        assert champion.problem == ""
