from pathlib import Path

import pytest

pytest.importorskip("mlflow")

from ragtune.errors import RegistryError
from ragtune.registry import champion
from ragtune.registry.connection import connected
from ragtune.registry.downloads import models_here
from ragtune.registry.mlflow import register
from ragtune.registry.start import PARTS, find_start

NAME = "countries"


@pytest.fixture
def make_model(make_run):
    """A model folder with all parts and its evaluation, good enough for a champion."""

    def make(name):
        model, evaluation = make_run(100, name)
        for part in PARTS:
            (model / part).mkdir(exist_ok=True)
            (model / part / "config.json").write_text("{}")
        return model, evaluation

    return make


@pytest.fixture
def values(tracking_uri, tmp_path):
    base = {part: f"base/{part}" for part in PARTS}
    wanted = {"start_from": "champion", "model_name": NAME, "tracking_uri": tracking_uri}
    return base | wanted | {"workspace": str(tmp_path / "workspace"), "workspace_volume": "ragtune-workspace"}


@pytest.fixture
def in_artifacts(make_model, log_model, values):
    """The URI of a champion whose model is in a server's artifacts."""
    model, evaluation = make_model("first")
    uri = log_model(model, values["tracking_uri"])
    register(model, evaluation, NAME, values["tracking_uri"], model_uri=uri)
    return uri


def test_the_base_model_is_what_a_run_starts_from_unless_it_asks_for_the_champion(make_model, values):
    register(*make_model("first"), NAME, values["tracking_uri"])
    start = find_start(values | {"start_from": "base"})
    assert start.parts == ("base/question_encoder", "base/passage_encoder", "base/generator")
    assert start.model == ""
    assert start.handed_on() == start.parts


def test_without_a_champion_yet_the_base_model_is_taken_and_told(values, tmp_path):
    start = find_start(values)
    assert (start.model, start.parts[2]) == ("", "base/generator")
    assert start.told == 'the base model, as no version of "countries" is champion yet'
    assert not (tmp_path / "workspace").exists()


def test_the_champion_is_taken_with_its_own_three_parts(make_model, values):
    done = register(*make_model("first"), NAME, values["tracking_uri"], workspace=values["workspace"])
    start = find_start(values)
    assert Path(start.model).as_uri() == done.model_uri
    assert start.parts == start.handed_on() == tuple(f"{start.model}/{part}" for part in PARTS)
    assert start.told == f"the champion, version 1 of countries, {start.model}"
    assert find_start(values | {"workspace_volume": ""}) == start  # processes share a folder without a volume, too


def test_a_champion_in_a_servers_artifacts_is_downloaded_into_the_workspace_once(in_artifacts, values, monkeypatch):
    start = find_start(values)
    (kept,) = Path(values["workspace"], "models", NAME).iterdir()  # and no download beside it
    assert start.model == str(kept)
    assert start.parts == start.handed_on()
    assert (kept / "generator" / "model.safetensors").read_text() == "weights of first"
    monkeypatch.setattr(champion, "_downloaded", lambda *args: pytest.fail("downloaded again"))
    assert find_start(values) == start


def test_where_no_volume_is_mounted_each_box_downloads_what_it_needs_of_the_champion(in_artifacts, values):
    start = find_start(values | {"workspace_volume": ""})
    assert start.model == in_artifacts
    assert start.told == f"the champion, version 1 of countries, {in_artifacts}"
    assert all(Path(part).is_dir() for part in start.parts)  # in this pod, to be checked and hashed
    with models_here(values["tracking_uri"], start.model, *start.handed_on()) as (model, *parts):
        assert Path(model, "generator", "model.safetensors").read_text() == "weights of first"
        assert [Path(part).name for part in parts] == list(PARTS)
        assert all(Path(part, "config.json").read_text() == "{}" for part in parts)


def test_a_champion_that_is_not_whole_is_an_error_too(values, tmp_path):
    (tmp_path / "half" / "question_encoder").mkdir(parents=True)
    with connected(values["tracking_uri"]) as client:
        client.create_registered_model(NAME)
        version = client.create_model_version(NAME, str(tmp_path / "half"))
        client.set_registered_model_alias(NAME, "champion", version.version)
    with pytest.raises(RegistryError, match=r"half: the model is gone, or not whole.*or set start_from=base"):
        find_start(values)


@pytest.mark.parametrize("source", ["models-elsewhere://bucket/1", "/nowhere/model"])
def test_a_champion_whose_model_is_gone_is_an_error_with_the_way_out(values, source):
    with connected(values["tracking_uri"]) as client:
        client.create_registered_model(NAME)
        gone = client.create_model_version(NAME, source)
        client.set_registered_model_alias(NAME, "champion", gone.version)
    with pytest.raises(RegistryError, match=f"cannot be trained further: {source}.*or set start_from=base"):
        find_start(values)
