"""The requests to a Kubernetes API server that a TrainJob takes; objects are dicts, as JSON has them."""

import json
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ragtune.errors import ClusterError

TRAINER = "/apis/trainer.kubeflow.org/v1alpha1"
_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TIMEOUT = (10.0, 30.0)  # seconds to connect and to wait for bytes
_PATIENCE = 300.0  # seconds that a server may be gone while it is asked something
_PAUSE = 2.0
_GONE = (0, 429, 500, 502, 503, 504)  # 0: no answer at all


class RefusedError(ClusterError):
    """An answer that is no success.

    Attributes:
        status: HTTP's.
        of_object: the server knows the kind of object, and says that this one is not there.
    """

    def __init__(self, message: str, status: int, of_object: bool = False):
        super().__init__(message)
        self.status, self.of_object = status, of_object


class Cluster:
    """An API server, asked as the pod's service account, or as `kubectl` would be outside of pods.

    Attributes:
        namespace: of the pod, or of kubectl's context.
    """

    def __init__(self, namespace: str = "", patience: float = _PATIENCE):
        """Read the credentials; nothing is asked yet.

        Raises:
            ClusterError: there are none.
        """
        from kubernetes import client, config

        settings = client.Configuration()
        try:
            if os.environ.get("KUBERNETES_SERVICE_HOST") and (_SERVICE_ACCOUNT / "token").exists():
                config.load_incluster_config(client_configuration=settings)
                own = (_SERVICE_ACCOUNT / "namespace").read_text(encoding="utf-8").strip()
            else:
                file = os.environ.get("KUBECONFIG")
                config.load_kube_config(config_file=file, client_configuration=settings)
                own = config.list_kube_config_contexts(config_file=file)[1]["context"].get("namespace", "default")
        except (config.ConfigException, OSError, TypeError) as error:
            raise ClusterError(
                f"launcher=trainjob: no Kubernetes cluster to ask ({error}); run on one, or take launcher=torchrun"
            ) from error
        settings.retries = False  # it is this class that asks again
        self.namespace, self._patience, self._client = namespace or own, patience, client.ApiClient(settings)

    def get(self, path: str, **query: str) -> dict[str, Any]:
        """Read one object, or the list at a path; asked again while the server is gone.

        Raises:
            RefusedError: the server refuses, or is gone for minutes.
        """
        return self._asked(path, lambda: self._request("GET", path, query))

    def find(self, path: str) -> dict[str, Any] | None:
        """As `get`; None where there is no such object."""
        try:
            return self.get(path)
        except RefusedError as error:
            if error.status != 404 or not error.of_object:
                raise
            return None

    def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make an object. A second try after an answer that was lost ends with a RefusedError of status 409."""
        return self._asked(path, lambda: self._request("POST", path, {}, dict(body)))

    def delete(self, path: str) -> None:
        """Delete an object after all that belongs to it; one that is gone already is as good."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground"}
        try:
            self._asked(path, lambda: self._request("DELETE", path, {}, body))
        except RefusedError as error:
            if error.status != 404:
                raise

    def stream(self, path: str, **query: str) -> Any:
        """Open a response whose lines come as they are written; the caller closes it.

        Raises:
            RefusedError: the server refuses, or is gone.
        """
        return self._request("GET", path, query, stream=True)

    def of_namespace(self, kind: str, name: str = "", api: str = "/api/v1") -> str:
        """Path of a kind of objects in the namespace, or of one of them."""
        return f"{api}/namespaces/{self.namespace}/{kind}" + (f"/{name}" if name else "")

    def _asked(self, path: str, ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        started = time.monotonic()
        while True:
            try:
                return ask()
            except RefusedError as error:
                if error.status not in _GONE or time.monotonic() - started > self._patience:
                    raise
            time.sleep(min(_PAUSE, self._patience))

    def _request(self, method: str, path: str, query: Mapping[str, str], body: Any = None, stream: bool = False) -> Any:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            response = self._client.call_api(
                path,
                method,
                query_params=list(query.items()),
                header_params={"Accept": "*/*" if stream else "application/json", "Content-Type": "application/json"},
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _return_http_data_only=True,
                _request_timeout=_TIMEOUT,
            )
            return response if stream else json.loads(response.data or b"{}")
        except ApiException as error:
            raise _refused(method, path, error.status or 0, error.body) from None
        except (HTTPError, OSError, ValueError) as error:
            raise RefusedError(
                f"{self._client.configuration.host}: no answer to {method} {path} ({error})", 0
            ) from None


def _refused(method: str, path: str, status: int, body: Any) -> RefusedError:
    try:
        told = json.loads(body or "{}")
    except ValueError:
        told = {}
    told = told if isinstance(told, dict) else {}
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body or "")
    message = str(told.get("message") or text or "no reason given").strip()
    if status == 403 and re.search(r'User ".*" cannot ', message):  # not a quota's or a webhook's 403
        message += (
            "; the step's service account needs deploy/base/trainjobs.yaml in this namespace: `kubectl apply -k` the "
            "folder of deploy/ that docs/cluster.md names for it"
        )
    return RefusedError(f"{method} {path}: {status}, {message}", status, bool(told.get("details", {}).get("name")))
