from pathlib import Path

import pytest

pytest.importorskip("mlflow")

from ragtune.errors import RegistryError
from ragtune.registry.downloads import models_here


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
