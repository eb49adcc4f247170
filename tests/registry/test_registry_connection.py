import os
from pathlib import Path

import pytest

from ragtune.errors import RegistryError
from ragtune.registry.connection import (
    _environment,
    _in_short,
    artifact_root,
    check_tracking_uri,
    database_file,
    is_server,
    is_unused,
    local_folder,
)


def test_a_registry_without_a_database_is_unused_and_stays_so(tmp_path):
    assert is_unused(str(tmp_path)) and not list(tmp_path.iterdir())
    (tmp_path / "mlflow.db").touch()
    assert not is_unused(str(tmp_path))
    assert not is_unused("https://mlflow.example.org")


def test_places_that_mlflow_may_be_kept_at():
    assert database_file("sqlite:////data/mlflow.db") == Path("/data/mlflow.db")
    assert database_file("/data") == Path("/data/mlflow.db")
    assert database_file("postgresql://db/mlflow") is None
    assert database_file("https://mlflow.example.org") is None
    assert is_server("https://mlflow.example.org") and not is_server("sqlite:///mlflow.db")
    assert artifact_root("sqlite:////data/mlflow.db") == "file:///data/mlflow-artifacts"
    assert artifact_root("https://mlflow.example.org") is None


@pytest.mark.parametrize("uri", ["file:///data", ""])
def test_plain_files_are_refused(uri):
    with pytest.raises(RegistryError, match="MLflow keeps no plain files any more; give sqlite"):
        check_tracking_uri(uri)


def test_a_nest_of_connection_errors_is_told_by_its_cause():
    nested = "API request failed\n HTTPConnectionPool(...): Max retries exceeded (Caused by "
    nested += "NewConnectionError('<urllib3...>: Failed to establish a connection: [Errno 111] Connection refused'))"
    assert _in_short(nested).startswith("cannot be reached: ") and "Connection refused" in _in_short(nested)
    assert _in_short("two\n lines") == "two lines"


def test_environment_variables_are_put_back_even_after_an_error(monkeypatch):
    monkeypatch.setenv("SET_BEFORE", "old")
    with pytest.raises(ValueError, match="mine"), _environment({"SET_BEFORE": "new", "NOT_SET_BEFORE": "new"}):
        assert os.environ["SET_BEFORE"] == os.environ["NOT_SET_BEFORE"] == "new"
        raise ValueError("mine")
    assert os.environ["SET_BEFORE"] == "old" and "NOT_SET_BEFORE" not in os.environ


@pytest.mark.parametrize("name", ["50%25", "a#b", "a?b=c", "plain", "name:1"])
def test_a_models_folder_is_found_by_its_path_and_by_its_uri_whatever_its_name(tmp_path, name):
    assert local_folder(f"{tmp_path}/{name}") == local_folder((tmp_path / name).as_uri()) == tmp_path / name


def test_a_name_that_looks_like_a_uri_is_a_folder_where_one_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert local_folder("exp:1/encoder") is None
    Path("exp:1", "encoder").mkdir(parents=True)
    assert local_folder("exp:1/encoder") == Path("exp:1/encoder")


@pytest.mark.parametrize("uri", ["s3://bucket/model", "runs:/1/model", "models:/countries/1", "mlflow-artifacts:/1/2"])
def test_what_is_in_a_store_has_no_folder(uri):
    assert local_folder(uri) is None
