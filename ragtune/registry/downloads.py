"""Models in a registry's artifact store, on their way to a box that shares no volume with the others."""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ragtune.errors import RegistryError, StorageError
from ragtune.files import describe_write_error
from ragtune.registry.connection import connected, local_folder

_NO_REGISTRY = "sqlite://"  # in memory, for stores that are asked without one
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_BYTES = 1 << 20  # fewer are free


@contextlib.contextmanager
def downloading(place: str, folder: str | Path) -> Iterator[None]:
    """Make whatever a store's client raises in the block, each of which has exceptions of its own, an error of ours.

    Args:
        place: what is downloaded.
        folder: where to.

    Raises:
        RegistryError: with `place` and the reason.
        StorageError: the disk is full.
    """
    try:
        yield
    except Exception as error:
        if _is_full(folder, error):
            told = describe_write_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), folder)
            raise StorageError(f"{place}: cannot be downloaded to {told}") from error
        raise RegistryError(f"{place}: cannot be downloaded ({' '.join(str(error).split())})") from error


def _is_full(folder: str | Path, error: Exception) -> bool:
    """True where the disk is full: MLflow puts its threads' errors into words, or for runs:/… says nothing of them."""
    if any(os.strerror(number) in str(error) for number in _FULL):
        return True
    return Path(folder).is_dir() and shutil.disk_usage(folder).free < _FULL_BYTES


def download(uri: str, tracking_uri: str, folder: str | Path) -> Path:
    """Download a folder of artifacts, and return where it is in `folder`.

    Args:
        uri: as the registry names it, such as mlflow-artifacts:/1/2/artifacts/model or s3://bucket/model.
        tracking_uri: of the registry; "" will do for a bucket.
        folder: where to, under its last name.

    Raises:
        RegistryError: it cannot be had, or the registry cannot be reached.
        StorageError: the disk is full.
    """
    with downloading(uri, folder), connected(tracking_uri or _NO_REGISTRY) as client:
        from mlflow.artifacts import download_artifacts

        return Path(download_artifacts(uri, dst_path=str(folder), tracking_uri=client.tracking_uri))


def temporary_folder() -> "tempfile.TemporaryDirectory[str]":
    """A folder for downloads, which is gone after the block.

    Raises:
        StorageError: none can be made.
    """
    try:
        return tempfile.TemporaryDirectory()
    except OSError as error:
        raise StorageError(
            f"no temporary folder for downloads can be made ({error.strerror}); set TMPDIR to a folder that may be "
            "written"
        ) from error


@contextlib.contextmanager
def models_here(tracking_uri: str, *places: str) -> Iterator[tuple[str, ...]]:
    """The same models where a box can load them: those in an artifact store are downloaded for the block.

    Args:
        tracking_uri: of the registry; "" will do where all are folders, names or in buckets.
        places: of each a folder, a name on the hub, "" for none, or the URI that `Start.handed_on` gives.

    Raises:
        RegistryError: one of them cannot be had.
        StorageError: no temporary folder can be made, or its disk is full.
    """
    elsewhere = [place for place in dict.fromkeys(places) if local_folder(place) is None]
    with contextlib.ExitStack() as folders:
        fetched = {
            place: download(place, tracking_uri, folders.enter_context(temporary_folder())) for place in elsewhere
        }
        yield tuple(str(fetched.get(place, place)) for place in places)
