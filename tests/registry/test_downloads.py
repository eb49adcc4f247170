import errno
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

pytest.importorskip("mlflow")

from ragtune.errors import RegistryError, StorageError
from ragtune.registry import connection
from ragtune.registry.connection import connected
from ragtune.registry.downloads import download, models_here


@pytest.fixture
def model(tracking_uri, log_model, tmp_path):
    """The URI of a model in an artifact store."""
    (tmp_path / "model" / "generator").mkdir(parents=True)
    (tmp_path / "model" / "generator" / "config.json").write_text("{}")
    return log_model(tmp_path / "model", tracking_uri)


def test_folders_and_names_are_handed_through_without_a_registry():
    places = ("facebook/bart-base@main", "/models/one", "models/two", "")
    with models_here("", *places) as here:
        assert here == places


def test_what_is_in_a_store_is_there_for_the_block_alone_and_fetched_once(model, tracking_uri):
    places = (f"{model}/generator", "base", f"{model}/generator")
    with models_here(tracking_uri, *places) as (generator, base, again):
        assert base == "base"
        assert generator == again
        assert Path(generator, "config.json").read_text() == "{}"
    assert not Path(generator).exists()


@pytest.mark.parametrize("place", ["{model}/absent", "models-elsewhere://bucket/1"])
def test_what_cannot_be_had_is_named_with_the_reason(model, tracking_uri, place):
    place = place.format(model=model)
    with (
        pytest.raises(RegistryError, match=rf"^{place}: cannot be downloaded \(.+\)$"),
        models_here(tracking_uri, place),
    ):
        pass


def test_a_registered_version_is_found_in_its_own_registry_which_leaves_no_other_behind(
    model, tracking_uri, tmp_path, monkeypatch
):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with connected(tracking_uri) as client:
        client.create_registered_model("countries")
        source = client.get_run(model.split("/")[1]).info.artifact_uri
        client.create_model_version("countries", f"{source}/model")
    with models_here(tracking_uri, "models:/countries/1/generator") as (generator,):
        assert Path(generator, "config.json").read_text() == "{}"
    assert list(Path.cwd().iterdir()) == []


def test_a_folder_that_holds_the_registry_will_do_as_its_uri(model, tmp_path):
    with models_here(str(tmp_path / "registry"), f"{model}/generator") as (generator,):
        assert Path(generator, "config.json").read_text() == "{}"


def test_a_store_is_asked_without_a_registry_too_which_makes_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    folder = download((tmp_path / "model").as_uri(), "", tmp_path / "downloads")
    assert (folder / "config.json").read_text() == "{}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["downloads", "model"]


def test_a_server_that_is_gone_is_told_after_seconds(monkeypatch):
    monkeypatch.setitem(connection._PROBE_LIMITS, "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        started, server = time.monotonic(), f"http://127.0.0.1:{taken.getsockname()[1]}"
        with (
            pytest.raises(
                RegistryError, match=rf"^mlflow-artifacts:/1: cannot be downloaded \({server}: cannot be rea"
            ),
            models_here(server, "mlflow-artifacts:/1"),
        ):
            pass
    assert time.monotonic() - started < 20


def test_a_full_disk_is_told_as_one(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    monkeypatch.setattr(shutil, "copy2", refuse)
    with pytest.raises(StorageError, match=r"^file:.*/model: cannot be downloaded to .*downloads: the disk is full"):
        download((tmp_path / "model").as_uri(), "", tmp_path / "downloads")


def test_a_disk_that_really_is_full(model, tracking_uri, small_disk, tmp_path, monkeypatch):
    subprocess.run(["mount", "-o", "remount,size=2m", small_disk], check=True)
    (weights,) = (tmp_path / "artifacts").rglob("config.json")
    weights.write_bytes(b"x" * 4_000_000)
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    with pytest.raises(StorageError, match=f"^{model}: cannot be .*disk is full"), models_here(tracking_uri, model):
        pass
    assert list(small_disk.iterdir()) == []


def test_without_a_temporary_folder_what_is_here_will_do_and_the_rest_is_told(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with models_here("", "facebook/bart-base") as (name,):
        assert name == "facebook/bart-base"
    with pytest.raises(StorageError, match=r"no temporary folder .*set TMPDIR"), models_here("", "s3://bucket/model"):
        pass
