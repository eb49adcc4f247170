"""The same version in a Kubeflow Model Registry, where a cluster has one: what MLflow holds, mirrored.

That registry has no aliases, so the champion is told by custom properties: the registered model's `champion` names a
version, whose own `champion` is true.
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
from ragtune.progress import say
from ragtune.registry.champion import CHAMPION
from ragtune.registry.mlflow import Registration
from ragtune.registry.servable import Serving

if TYPE_CHECKING:
    from model_registry import ModelRegistry
    from model_registry.types import ModelVersion

_URL = re.compile(r"https?://[^/\s]+/?")
_AUTHOR = "ragtune"
_LONGEST_BODY = 300  # letters of a refusal; a proxy's may be a page of HTML
_FORMAT = "ragtune"
_ANSWER_WITHIN_SECONDS = 10.0
_TRIES, _PAUSE_SECONDS = 3, 1.0
_CONFLICT, _SERVER_ERROR = 409, 500
_TOKEN_FILE = "KF_PIPELINES_SA_TOKEN_PATH"  # noqa: S105 (the name of the variable)
_REMEDIES = {
    401: f"is the token expired? It is read from the file that {_TOKEN_FILE} names, or the pod's own",
    403: f"may its service account use the registry? Its token is in the file that {_TOKEN_FILE} names, or the pod's",
    404: "is this the URL of a Kubeflow Model Registry, version v1 of its API?",
    _CONFLICT: "another registration was at it; run again",
}
_SERVER_REMEDY = "look at the registry's own log, and run again: what is there is completed"

T = TypeVar("T")


def register_in_kubeflow(registration: Registration, url: str, serving: Serving | None = None) -> str:
    """Make the registered version known to a Kubeflow Model Registry; mirror the champion.

    Figures go into the version's custom properties as numbers, lineage as text. The same registration again completes
    or refreshes the version that is there. A version becomes champion when its artifact is there, and the one before
    it ceases to be afterwards: whoever looks meanwhile finds two, never none, and the registered model names one.

    Args:
        registration: what `ragtune.registry.mlflow.register` gave back.
        url: http(s)://host[:port] of the registry. The token is the pod's own, or in the file that
            KF_PIPELINES_SA_TOKEN_PATH names.
        serving: how KServe reaches the model; where it cannot, the version says so (`servable` is false), and the log.

    Returns:
        The version's name there: MLflow's version and the first digits of its run, such as "3-a1b2c3d4".

    Raises:
        RegistryError: the registry cannot be reached within seconds, or refuses.
    """
    check_url(url)
    serving = serving or Serving()
    version = f"{registration.version}-{registration.run_id[:8]}"
    uri = serving.uri(registration.model_uri)
    if not uri:
        say(
            f"{registration.model_uri}: KServe cannot fetch this model, and {url} says so; keep it on a volume claim "
            "(workspace_volume), in an object store that KFP writes its artifacts to, or in MLflow with s3:// artifacts"
        )
    properties: dict[str, Any] = {
        **registration.lineage,
        **{name: float(value) for name, value in registration.metrics.items()},
        CHAMPION: registration.promoted,
        "servable": bool(uri),
        "promotion_reason": registration.reason,
        "mlflow_run": registration.run_id,
    }
    artifact = {
        "model_format_name": _FORMAT,
        "model_format_version": __version__,
        "storage_key": serving.storage_key or None,
        "service_account_name": serving.service_account or None,
    }
    with _registry_errors(url):
        registry = _connect(url)
        _upsert(registry, registration, version, properties, uri or registration.model_uri, artifact)
        if registration.promoted:
            _mirror_champion(registry, registration.name, version)
    return version


def check_url(url: str) -> None:
    """Raises RegistryError where no Kubeflow Model Registry can be meant."""
    if not _URL.fullmatch(url):
        raise RegistryError(f'Kubeflow Model Registry "{url}": give http(s)://host[:port]')


def _upsert(
    registry: "ModelRegistry",
    registration: Registration,
    version: str,
    properties: dict[str, Any],
    uri: str,
    artifact: dict[str, Any],
) -> None:
    """Bring model, version and artifact about, in this order, whatever of them is there; the properties come last."""
    name = registration.name
    found = _find_version(registry, name, version) or _create(
        registry, registration, version, properties, uri, artifact
    )
    known = registry.get_model_artifact(name, version)
    if known is None:  # the try before this one was cut short in between
        # The client has no public call for an artifact of a version that exists.
        registry.async_runner(registry._register_model_artifact(found, name, uri, **artifact))
    elif any(getattr(known, field) != value for field, value in {**artifact, "uri": uri}.items()):
        for field, value in {**artifact, "uri": uri}.items():
            setattr(known, field, value)
        registry.update(known)
    found.custom_properties = properties
    registry.update(found)


def _create(
    registry: "ModelRegistry",
    registration: Registration,
    version: str,
    properties: dict[str, Any],
    uri: str,
    artifact: dict[str, Any],
) -> "ModelVersion":
    """Make the version, and the model where it is the first; it is no champion before its artifact is there."""
    from model_registry.exceptions import StoreError
    from mr_openapi.exceptions import ApiException

    name, metadata = registration.name, {**properties, CHAMPION: False}
    for again in reversed(range(_TRIES)):
        try:
            registry.register_model(
                name, uri, version=version, version_description=registration.reason, metadata=metadata, **artifact
            )
        except (ApiException, StoreError) as error:  # where another registration makes model or version at the moment
            if not again or getattr(error, "status", _CONFLICT) != _CONFLICT:
                raise
        if found := _find_version(registry, name, version):
            return found
    raise RegistryError(f'"{name}" {version}: is said to be there, and is not to be found; run again')


def _find_version(registry: "ModelRegistry", name: str, version: str) -> "ModelVersion | None":
    return registry.get_model_version(name, version) if registry.get_registered_model(name) else None


def _mirror_champion(registry: "ModelRegistry", name: str, version: str) -> None:
    model = registry.get_registered_model(name)
    model.custom_properties = {**(model.custom_properties or {}), CHAMPION: version}
    registry.update(model)
    for other in list(registry.get_model_versions(name)):
        if other.name != version and (other.custom_properties or {}).get(CHAMPION):
            other.custom_properties = {**other.custom_properties, CHAMPION: False}
            registry.update(other)


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
        remedy = _REMEDIES.get(error.status or 0, _SERVER_REMEDY if (error.status or 0) >= _SERVER_ERROR else "")
        raise RegistryError(
            f"{url}: refused with {error.status} {error.reason}: {_in_short(error.body)}"
            + (f"; {remedy}" * bool(remedy))
        ) from error
    except (OpenApiException, StoreError) as error:
        raise RegistryError(f"{url}: {error}") from error
    except (ClientError, OSError) as error:
        reason = str(error) or f"no answer within {_ANSWER_WITHIN_SECONDS:.0f} s"
        raise RegistryError(f"{url}: cannot be reached: {reason}; is it up, and is this its address?") from error


def _in_short(body: object) -> str:
    return " ".join(str(body).split())[:_LONGEST_BODY]
