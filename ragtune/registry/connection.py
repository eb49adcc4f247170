"""A quiet connection to MLflow: embedded SQLite or a server, errors in one line, no telemetry."""

import contextlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

from ragtune.errors import RegistryError
from ragtune.files import atomic_path
from ragtune.locks import locked

if TYPE_CHECKING:
    from mlflow import MlflowClient

_PROBE_LIMITS = {  # seconds, not the minutes that are MLflow's own choice
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
}
_QUIET = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
_NOISY_LOGGERS = ("mlflow", "alembic", "urllib3")
_SQLITE = "sqlite:///"
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.I)
_CONNECT_SECONDS = 300.0  # to wait for others; a new database takes two seconds, on a slow volume many more
_CAUSE = re.compile(r"""Caused by \w+\(["']?(?:[^:]*: )?(.*?)["']?\)\)$""", re.S)


@contextlib.contextmanager
def connected(tracking_uri: str) -> Iterator["MlflowClient"]:
    """An MLflow client whose server has just answered, or whose SQLite database has all its tables.

    A server that does not answer is an error after two retries, some seconds; once it has answered, MLflow's own
    retries apply. Credentials come from MLflow's environment variables (MLFLOW_TRACKING_TOKEN …).

    MLflow makes and migrates an SQLite database's tables in whichever process comes first, and two at once break it for
    good; so one process at a time connects, and a new database gets its name only with all its tables in it.

    What MLflow asks for itself in the block, such as where models:/name/1 is, it asks this registry.

    Raises:
        RegistryError: at once, where nothing is to be reached; within the block, for whatever MLflow refuses.
        StorageError: the database's folder may not be written, or another process has been connecting for minutes.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when mlflow is imported
    levels = {name: logging.getLogger(name).level for name in _NOISY_LOGGERS}
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        for name in _NOISY_LOGGERS:
            logging.getLogger(name).setLevel(logging.ERROR)
        if is_server(tracking_uri):
            client = MlflowClient(tracking_uri=tracking_uri)
            with _environment(_PROBE_LIMITS):
                client.search_experiments(max_results=1)
        else:
            client = _embedded(tracking_uri)
        with _environment(_QUIET | {"MLFLOW_TRACKING_URI": client.tracking_uri}):
            yield client
    except MlflowException as error:
        raise RegistryError(f"{tracking_uri}: {_in_short(str(error))}") from error
    except SQLAlchemyError as error:
        place = database_file(tracking_uri) or tracking_uri
        raise RegistryError(
            f"{place}: the database refuses ({_in_short(str(error))}); if it cannot be repaired, move it away, and the "
            "next registration begins a new one"
        ) from error
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def local_folder(model_uri: str) -> Path | None:
    """The folder that a model's URI or plain path names; None for one in a store, or on a server."""
    if model_uri.startswith("file:"):
        return Path(unquote(urlparse(model_uri).path))
    is_path = not _SCHEME.match(model_uri) or Path(model_uri).is_dir()
    return Path(model_uri) if is_path else None


def registry_uri(tracking_uri: str, workspace: str) -> str:
    """The registry of a run: the `tracking_uri` that it was given, else an SQLite database in its workspace."""
    return tracking_uri or f"{_SQLITE}{workspace}/mlflow.db"


def is_server(tracking_uri: str) -> bool:
    """Tell whether the URI is of an MLflow server, which answers over HTTP, and not of a database opened here."""
    return urlparse(tracking_uri).scheme in ("http", "https")


def artifact_root(tracking_uri: str) -> str | None:
    """Folder of artifacts, beside an embedded SQLite; None where the server decides."""
    database = database_file(tracking_uri)
    return (database.parent / "mlflow-artifacts").as_uri() if database else None


def database_file(tracking_uri: str) -> Path | None:
    """The SQLite file that is meant; None for a server or another database, which MLflow reaches by itself.

    Raises:
        RegistryError: plain files are meant, which MLflow keeps no more.
    """
    if tracking_uri.startswith(_SQLITE):
        return Path(tracking_uri.removeprefix(_SQLITE)).absolute()
    if tracking_uri.startswith("file:") or not tracking_uri:
        raise RegistryError(
            f'tracking URI "{tracking_uri}": MLflow keeps no plain files any more; give sqlite:///…/mlflow.db, '
            "a folder to hold one, or a server's http(s)://…"
        )
    return None if "://" in tracking_uri else Path(tracking_uri).absolute() / "mlflow.db"


def _embedded(tracking_uri: str) -> "MlflowClient":
    """A client with a database of its own; where that is SQLite, one that is there and whole."""
    from mlflow import MlflowClient

    database = database_file(tracking_uri)
    if database is None:
        return MlflowClient(tracking_uri=tracking_uri)
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RegistryError(f"{database.parent}: cannot be made ({error.strerror}); choose another place") from error
    with locked(database.with_name(f".{database.name}.connect.lock"), _CONNECT_SECONDS):
        if not database.exists():
            with atomic_path(database) as temporary:
                _open_database(temporary)
        return _open_database(database)


def _open_database(database: Path) -> "MlflowClient":
    """MLflow makes tables that are missing at a client's first question."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"{_SQLITE}{database}")
    client.search_experiments(max_results=1)
    return client


def is_unused(tracking_uri: str) -> bool:
    """Tell that an embedded registry has no database yet: those who only look then make none.

    Raises:
        RegistryError: as `database_file`.
    """
    database = database_file(tracking_uri)
    return database is not None and not database.exists()


def check_tracking_uri(tracking_uri: str) -> None:
    """Raises RegistryError for plain files, which MLflow keeps no more; nothing is opened or made."""
    database_file(tracking_uri)


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _in_short(message: str) -> str:
    """The cause at the end of a nest of connection errors; any other message in one line."""
    if match := _CAUSE.search(message):
        message = f"cannot be reached: {match[1]}"
    return " ".join(message.split())
