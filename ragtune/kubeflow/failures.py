"""Failures of a KFP server as messages that name the way out; none quotes a token, a cookie or a header."""

import contextlib
import json
from typing import Any

import urllib3
from kfp_server_api.exceptions import ApiException

from ragtune.errors import ClusterError
from ragtune.kubeflow.credentials import Credentials

IS_IT_THE_API = "give the address of KFP's API as --host: in a whole Kubeflow it ends in /pipeline"
_LONGEST_MESSAGE = 600
_MENDED_LATER = (408, 429, 500, 502, 503, 504)


class UnansweredError(ClusterError):
    """A server that does not answer now, and may in a while."""


class RefusedError(ClusterError):
    """A request that the server refused.

    Attributes:
        status: HTTP's, such as 404.
    """

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


def refused(
    doing: str, host: str, namespace: str, credentials: Credentials, error: ApiException, secrets: list[str]
) -> ClusterError:
    """The error for an answer that is none of 2xx.

    Args:
        doing: for the message, such as "starting the run nightly".
        host, namespace, credentials: of the connection.
        error: of the API's client.
        secrets: to be hidden, should the server repeat them.
    """
    told = _message_of(error.body)
    for secret in secrets:
        told = told.replace(secret, "***")
    answer = f"{doing}: {host} answered {error.status}" + (f", {told}" if told else "")
    if error.status in _MENDED_LATER:
        return UnansweredError(f"{answer}; try again; if it lasts, see `kubectl logs -n kubeflow deploy/ml-pipeline`")
    return RefusedError(f"{answer}; {_way_out(error.status, namespace or 'NAMESPACE', credentials)}", error.status)


def unanswered(doing: str, host: str, seconds: float, error: Exception) -> ClusterError:
    """The error for no answer at all, in the `seconds` that were waited for one."""
    reason = error.reason if isinstance(error, urllib3.exceptions.MaxRetryError) else error
    if isinstance(reason, urllib3.exceptions.SSLError):
        return ClusterError(
            f"{doing}: the certificate of {host} is not trusted ({_last(reason)}); give the cluster's CA as --ca-file"
        )
    if isinstance(reason, urllib3.exceptions.NameResolutionError | urllib3.exceptions.LocationParseError):
        return ClusterError(f"{doing}: there is no host {host}; give KFP's address as --host")
    if isinstance(reason, urllib3.exceptions.ReadTimeoutError | urllib3.exceptions.ProtocolError):
        silence = f"gave no answer in {seconds:g} s" if "timed out" in str(reason) else "closed the connection"
        return UnansweredError(
            f"{doing}: {host} {silence}; it may have done it all the same: see `python pipeline.py runs` and "
            "`schedules` before you try again"
        )
    return UnansweredError(
        f"{doing}: {host} cannot be reached ({_last(reason)}); is the address right, and the `kubectl port-forward "
        "-n kubeflow svc/ml-pipeline 8888` that it may need still running?"
    )


def _way_out(status: int, namespace: str, credentials: Credentials) -> str:
    if status == 401 or 300 <= status < 400:  # Dex sends those without a session on to its login page
        return (
            f"it does not know who asks (sent: {credentials.source()}): expired, or another server's. Write a token "
            f"with `kubectl create token default-editor -n {namespace} --audience pipelines.kubeflow.org > FILE` and "
            "give --token-file FILE, or a browser session's cookies as --cookies-file"
        )
    if status == 403:
        return (
            f"is the namespace {namespace} yours? See `kubectl auth can-i create runs.pipelines.kubeflow.org "
            f"-n {namespace}`, and ask its owner for the role kubeflow-edit"
        )
    if status == 404:
        return f"see what is there with `python pipeline.py runs` and `schedules`, or {IS_IT_THE_API}"
    if status == 409:
        return "there is one of that name; give another"
    return "fix what it names, and try again"


def _message_of(body: Any) -> str:
    """A server's own words: the gateway's `message`, the upload's `error_message`, or plain text."""
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else str(body or "")
    with contextlib.suppress(ValueError):
        answer = json.loads(text)
        if isinstance(answer, dict):
            text = str(answer.get("message") or answer.get("error_message") or text)
    if "<html" in text.lower():
        return "a web page"
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_MESSAGE else text[:_LONGEST_MESSAGE] + " …"


def _last(error: Any) -> str:
    """The reason at the end of urllib3's chain, without the addresses of its objects."""
    return str(error).rpartition(": ")[2] or type(error).__name__
