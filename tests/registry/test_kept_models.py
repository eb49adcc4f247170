import os

import pytest

from ragtune.files import content_hash
from ragtune.registry.kept_models import keep_model


@pytest.fixture
def folder(make_run):
    return make_run(1)[0]


def test_what_is_kept_outlives_the_run(folder, tmp_path):
    whole = content_hash(folder)
    kept = keep_model(folder, tmp_path / "models", whole)
    (folder / "generator" / "model.safetensors").unlink()
    assert content_hash(kept) == whole


def test_weights_on_one_volume_are_not_stored_twice(folder, tmp_path):
    kept = keep_model(folder, tmp_path / "models", content_hash(folder))
    assert (kept / "generator" / "model.safetensors").samefile(folder / "generator" / "model.safetensors")


def test_a_volume_without_links_gets_a_copy(folder, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    whole = content_hash(folder)
    kept = keep_model(folder, tmp_path / "models", whole)
    (folder / "generator" / "model.safetensors").write_text("other weights")
    assert content_hash(kept) == whole


def test_what_is_kept_is_read_only(folder, tmp_path):
    kept = keep_model(folder, tmp_path / "models", content_hash(folder))
    assert not (kept / "generator" / "model.safetensors").stat().st_mode & 0o222


def test_a_kept_model_that_was_changed_is_made_good(folder, tmp_path):
    whole = content_hash(folder)
    kept = keep_model(folder, tmp_path / "models", whole)
    (kept / "ragtune.json").unlink()
    assert content_hash(keep_model(folder, tmp_path / "models", whole)) == whole


def test_a_link_in_the_model_folder_becomes_a_file(folder, tmp_path):
    weights = folder / "generator" / "model.safetensors"
    weights.rename(tmp_path / "weights")
    weights.symlink_to(tmp_path / "weights")
    kept = keep_model(folder, tmp_path / "models", content_hash(folder))
    assert not (kept / "generator" / "model.safetensors").is_symlink()
