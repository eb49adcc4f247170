"""The same version in a Kubeflow Model Registry, where a cluster has one: what MLflow holds, mirrored.

That registry has no aliases, so the champion is told by custom properties: `champion` is true on one version at most,
and the registered model's `champion` names it.
"""

import asyncio
import contextlib
import logging
import re
import time
import warnings
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from ragtune import __version__
from ragtune.errors import RegistryError
from ragtune.registry.champion import CHAMPION
from ragtune.registry.mlflow import Registration

if TYPE_CHECKING:
    from model_registry import ModelRegistry
    from model_registry.types import ModelVersion

_URL = re.compile(r"https?://[^/\s]+/?")
_AUTHOR = "ragtune"
_FORMAT = "ragtune"
_ANSWER_WITHIN_SECONDS = 10.0
_TRIES, _PAUSE_SECONDS = 3, 1.0

T = TypeVar("T")


def register_in_kubeflow(registration: Registration, url: str) -> str:
    """Make the registered version known to a Kubeflow Model Registry; mirror the champion.

    Figures go into the version's custom properties as numbers, lineage as text. The same registration again completes
    or refreshes the version that is there.

    Args:
        registration: what `ragtune.registry.mlflow.register` gave back; its `model_uri` must be one that the cluster's
            serving can read.
        url: http(s)://host[:port] of the registry. The token is the pod's own, or in the file that
            KF_PIPELINES_SA_TOKEN_PATH names.

    Returns:
        The version's name there: MLflow's version and the first digits of its run, such as "3-a1b2c3d4".

    Raises:
        RegistryError: the registry cannot be reached within seconds, or refuses.
    """
    check_url(url)
    version = f"{registration.version}-{registration.run_id[:8]}"
    properties: dict[str, Any] = {
        **registration.lineage,
        **{name: float(value) for name, value in registration.metrics.items()},
        CHAMPION: registration.promoted,
        "promotion_reason": registration.reason,
        "mlflow_run": registration.run_id,
    }
    with _registry_errors(url):
        registry = _connect(url)
        _upsert_version(registry, registration, version, properties)
        if registration.promoted:
            _mirror_champion(registry, registration.name, version)
    return version


def check_url(url: str) -> None:
    """Raises RegistryError where no Kubeflow Model Registry can be meant."""
    if not _URL.fullmatch(url):
        raise RegistryError(f'Kubeflow Model Registry "{url}": give http(s)://host[:port]')


def _upsert_version(
    registry: "ModelRegistry", registration: Registration, version: str, properties: dict[str, Any]
) -> None:
    name, uri = registration.name, registration.model_uri
    found = _find_version(registry, name, version)
    if found is None:
        registry.register_model(
            name,
            uri,
            version=version,
            model_format_name=_FORMAT,
            model_format_version=__version__,
            version_description=registration.reason,
            metadata=properties,
        )
        return
    found.custom_properties = properties
    registry.update(found)
    if registry.get_model_artifact(name, version) is None:  # the try before this one was cut short in between
        # The client has no public call for an artifact of a version that exists.
        registry.async_runner(
            registry._register_model_artifact(
                found, name, uri, model_format_name=_FORMAT, model_format_version=__version__
            )
        )


def _find_version(registry: "ModelRegistry", name: str, version: str) -> "ModelVersion | None":
    return registry.get_model_version(name, version) if registry.get_registered_model(name) else None


def _mirror_champion(registry: "ModelRegistry", name: str, version: str) -> None:
    for other in list(registry.get_model_versions(name)):
        if other.name != version and (other.custom_properties or {}).get(CHAMPION):
            other.custom_properties = {**other.custom_properties, CHAMPION: False}
            registry.update(other)
    model = registry.get_registered_model(name)
    model.custom_properties = {**(model.custom_properties or {}), CHAMPION: version}
    registry.update(model)


def _connect(url: str) -> "ModelRegistry":
    from aiohttp import ClientError

    handlers = list(logging.root.handlers)
    from model_registry import ModelRegistry

    logging.root.handlers[:] = handlers  # importing the client configures everybody's logging
    for attempt in range(_TRIES):
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="User access token is missing")
                return ModelRegistry(url, author=_AUTHOR, log_level=logging.ERROR, async_runner=_in_a_thread)
        except (ClientError, OSError):
            if attempt == _TRIES - 1:
                raise
            time.sleep(_PAUSE_SECONDS)
    raise AssertionError("unreachable")


def _in_a_thread(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run it in an event loop of its own: works inside a notebook's loop too, without patching asyncio."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, asyncio.wait_for(coroutine, _ANSWER_WITHIN_SECONDS)).result()


@contextlib.contextmanager
def _registry_errors(url: str) -> Iterator[None]:
    try:
        from aiohttp import ClientError
        from model_registry.exceptions import StoreError
        from mr_openapi.exceptions import ApiException, OpenApiException
    except ImportError as error:
        raise RegistryError(
            "the Kubeflow Model Registry needs its client: pip install 'model-registry>=0.3.18'"
        ) from error
    try:
        yield
    except ApiException as error:
        raise RegistryError(f"{url}: refused with {error.status} {error.reason}: {error.body}") from error
    except (OpenApiException, StoreError) as error:
        raise RegistryError(f"{url}: {error}") from error
    except (ClientError, OSError) as error:
        raise RegistryError(f"{url}: cannot be reached: {error or 'no answer'}") from error
