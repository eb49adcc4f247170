"""A connection to a KFP API server: where it is, who asks, and every failure as one clear message in bounded time."""

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import kfp_server_api
import urllib3
from kfp_server_api.exceptions import ApiException

from ragtune.errors import ClusterError
from ragtune.kubeflow.credentials import POD_NAMESPACE_FILE, Credentials
from ragtune.kubeflow.failures import IS_IT_THE_API, refused, unanswered
from ragtune.uris import holds_secret

HOST = "KF_PIPELINES_ENDPOINT"  # KFP's own name for the variable
IN_CLUSTER_HOST = "http://ml-pipeline.kubeflow.svc.cluster.local:8888"
SECONDS = (5.0, 30.0)  # to connect, and for an answer
_CONNECT_AGAIN = 2  # a request that never reached the server is safe to repeat; any other is not


class Connection:
    """A KFP server, asked by one user in one namespace.

    Attributes:
        host: its address.
        namespace: of the runs; "" where KFP has no users.
        runs, pipelines, uploads, experiments, schedules: the parts of its API, for `call`.
    """

    def __init__(self, host: str, credentials: Credentials, seconds: tuple[float, float] = SECONDS):
        """Prepare a connection; nothing is sent yet.

        Args:
            host: such as https://kubeflow.example.org/pipeline.
            credentials: who asks.
            seconds: longest time to connect, and to wait for an answer.
        """
        configuration = kfp_server_api.Configuration(host=host, api_key={"authorization": ""})
        configuration.api_key_prefix = {"authorization": "Bearer"}
        configuration.ssl_ca_cert = str(credentials.ca_file) if credentials.ca_file else None
        configuration.retries = urllib3.Retry(
            connect=_CONNECT_AGAIN, read=0, redirect=False, status=0, other=0, backoff_factor=0.2
        )
        self.host, self.namespace = host, ""
        self._credentials, self._seconds = credentials, seconds
        self._api = api = kfp_server_api.ApiClient(configuration)
        self.runs, self.pipelines = kfp_server_api.RunServiceApi(api), kfp_server_api.PipelineServiceApi(api)
        self.uploads = kfp_server_api.PipelineUploadServiceApi(api)
        self.experiments = kfp_server_api.ExperimentServiceApi(api)
        self.schedules = kfp_server_api.RecurringRunServiceApi(api)

    def call(self, doing: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call one function of the API, with the credentials as they are now.

        Args:
            doing: for messages, such as "starting the run nightly".
            function: such as `connection.runs.run_service_get_run`.

        Raises:
            UnansweredError: no answer in time, or one that says to come back.
            RefusedError: the server refused; `status` says how.
            ClusterError: a token cannot be read, or the answer is not KFP's.
        """
        token, cookies = self._credentials.token(), self._credentials.cookies()
        self._api.configuration.api_key = {"authorization": token} if token else {}
        self._api.cookie = cookies or None
        with self._errors(doing, [secret for secret in (token, cookies) if secret]):
            answer = function(*arguments, _request_timeout=self._seconds, **options)
            if function != self._get_text and not isinstance(json.loads(self._api.last_response.data), dict):
                raise ValueError  # the API's client makes an empty object of what is none, such as a login page
            return answer

    def log_of(self, run_id: str, pod: str) -> str:
        """The log of one pod of a run, by KFP's way to it, which its Python client has no function for."""
        path = {"run_id": run_id, "node_id": pod}
        place = "/apis/v1alpha1/runs/{run_id}/nodes/{node_id}/log"
        return self.call(f"reading the log of {pod}", self._get_text, place, path)

    def open(self, namespace: str = "") -> "Connection":
        """Ask whether this is KFP, and settle the namespace.

        Raises:
            ClusterError: as `call`; or the namespace is missing where KFP has users, or given where it has none.
        """
        health = self.call("connecting", self._get, "/apis/v2beta1/healthz")
        if "multi_user" not in health:
            raise ClusterError(f"{self.host}: is no KFP server of version 2; {IS_IT_THE_API}")
        if not health["multi_user"]:
            if namespace:
                raise ClusterError(f"--namespace {namespace}: {self.host} has no users, and so no namespaces; omit it")
            return self
        if not namespace and POD_NAMESPACE_FILE.exists():
            namespace = POD_NAMESPACE_FILE.read_text(encoding="utf-8").strip()
        if not namespace:
            raise ClusterError(f"{self.host}: KFP has users here; give your profile's --namespace")
        self.namespace = namespace
        return self

    def _get(self, path: str, parameters: dict[str, str] | None = None, kind: str = "object", **options: Any) -> Any:
        options |= {"response_type": kind, "auth_settings": ["Bearer"], "_return_http_data_only": True}
        return self._api.call_api(path, "GET", parameters or {}, **options)

    def _get_text(self, path: str, parameters: dict[str, str], **options: Any) -> str:
        return self._get(path, parameters, "str", **options)

    @contextlib.contextmanager
    def _errors(self, doing: str, secrets: list[str]) -> Iterator[None]:
        """Turn every failure into a message without secrets; its cause is dropped, as it may quote a header."""
        try:
            yield
        except ApiException as error:
            raise refused(doing, self.host, self.namespace, self._credentials, error, secrets) from None
        except urllib3.exceptions.HTTPError as error:
            raise unanswered(doing, self.host, self._seconds[1], error) from None
        except ValueError:
            raise ClusterError(f"{doing}: {self.host} gave an answer that KFP does not give; {IS_IT_THE_API}") from None


def named(name: str) -> str:
    """The API's filter for one display name."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})


def connect(
    host: str = "",
    namespace: str = "",
    token_file: str = "",
    cookies_file: str = "",
    ca_file: str = "",
    seconds: tuple[float, float] = SECONDS,
) -> Connection:
    """Connect to a KFP server.

    Args:
        host: its address; "" takes KF_PIPELINES_ENDPOINT, or inside a cluster the server of that cluster.
        namespace: the user's, where KFP has users; "" takes the pod's own.
        token_file: a file with a bearer token, read again before every request; see `Credentials.find`.
        cookies_file: a file with the cookies of a browser's session, as Dex wants them.
        ca_file: certificates to trust, PEM; "" trusts those of certifi.
        seconds: longest time to connect, and to wait for an answer.

    Raises:
        ClusterError: no address, no KFP there, or no right to ask.
    """
    in_cluster = "KUBERNETES_SERVICE_HOST" in os.environ
    address = host or os.environ.get(HOST, "") or (IN_CLUSTER_HOST if in_cluster else "")
    if not address:
        raise ClusterError(f"no KFP server is named; give its address as --host, or as {HOST} in the environment")
    if holds_secret(address):
        raise ClusterError(f"{address}: an address holds no password or token; give --token-file or --cookies-file")
    address = address if re.match(r"https?://", address) else f"https://{address}"
    parts = urlsplit(address)
    if not parts.hostname:
        raise ClusterError(f"{address}: is no address; write it as https://host or https://host/pipeline")
    address = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
    credentials = Credentials.find(token_file, cookies_file, ca_file, in_cluster=address == IN_CLUSTER_HOST)
    return Connection(address, credentials, seconds).open(namespace)
