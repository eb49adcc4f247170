"""Models in a registry's artifact store, on their way to a box that shares no volume with the others."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ragtune.errors import RegistryError
from ragtune.registry.connection import local_folder


@contextlib.contextmanager
def downloading(place: str) -> Iterator[None]:
    """Make whatever a store's client raises in the block, each of which has exceptions of its own, an error of ours.

    Raises:
        RegistryError: with `place`, which was to be downloaded, and the reason.
    """
    try:
        yield
    except Exception as error:
        raise RegistryError(f"{place}: cannot be downloaded ({' '.join(str(error).split())})") from error


def download(uri: str, tracking_uri: str, folder: str | Path) -> Path:
    """Download a folder of artifacts, and return where it is in `folder`.

    Args:
        uri: as the registry names it, such as mlflow-artifacts:/1/2/artifacts/model or s3://bucket/model.
        tracking_uri: of the registry.
        folder: where to, under its last name.

    Raises:
        RegistryError: it cannot be had.
    """
    with downloading(uri):
        from mlflow.artifacts import download_artifacts

        return Path(download_artifacts(uri, dst_path=str(folder), tracking_uri=tracking_uri))


@contextlib.contextmanager
def models_here(tracking_uri: str, *places: str) -> Iterator[tuple[str, ...]]:
    """The same models where a box can load them: those in an artifact store are downloaded for the block.

    Args:
        tracking_uri: of the registry; "" will do where all are folders or names.
        places: of each a folder, a name on the hub, "" for none, or the URI that `Start.handed_on` gives.

    Raises:
        RegistryError: one of them cannot be had.
    """
    with tempfile.TemporaryDirectory() as folder:
        elsewhere = [place for place in dict.fromkeys(places) if local_folder(place) is None]
        fetched = {place: download(place, tracking_uri, tempfile.mkdtemp(dir=folder)) for place in elsewhere}
        yield tuple(str(fetched.get(place, place)) for place in places)
