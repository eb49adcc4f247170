"""Credentials for a KFP server: files and environment variables, read again before every request."""

import os
import ssl
from dataclasses import dataclass
from pathlib import Path

from ragtune.errors import ClusterError

TOKEN, TOKEN_FILE = "RAGTUNE_KFP_TOKEN", "RAGTUNE_KFP_TOKEN_FILE"
COOKIES, COOKIES_FILE = "RAGTUNE_KFP_COOKIES", "RAGTUNE_KFP_COOKIES_FILE"
CA_FILE = "RAGTUNE_KFP_CA_FILE"
KFP_TOKEN_FILE = "KF_PIPELINES_SA_TOKEN_PATH"  # noqa: S105 (KFP's own name for the variable)
POD_TOKEN_FILE = Path("/var/run/secrets/kubeflow/pipelines/token")  # a service account's, where a pod has KFP's volume
POD_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

_LONGEST_SHOWN = 40  # letters of a path without folders


@dataclass(frozen=True)
class Credentials:
    """Places of the bearer token, the cookies and the CA bundle; None where there is none."""

    token_file: Path | None = None
    cookies_file: Path | None = None
    ca_file: Path | None = None

    @classmethod
    def find(
        cls, token_file: str = "", cookies_file: str = "", ca_file: str = "", in_cluster: bool = False
    ) -> "Credentials":
        """Find them: what is given, then the environment, then, for the cluster's own server, the pod's volume.

        Args:
            token_file, cookies_file, ca_file: paths that go before the environment's; "" for none.
            in_cluster: whether the server is that of this pod's cluster, the only one that gets this pod's token.

        Raises:
            ClusterError: the CA bundle is not there or holds no certificate.
        """
        token = token_file or os.environ.get(TOKEN_FILE, "")
        if not token and not os.environ.get(TOKEN):
            token = os.environ.get(KFP_TOKEN_FILE, "")
            if not token and in_cluster and POD_TOKEN_FILE.exists():
                token = str(POD_TOKEN_FILE)
        cookies = cookies_file or os.environ.get(COOKIES_FILE, "")
        bundle = ca_file or os.environ.get(CA_FILE, "")
        found = cls(*(Path(path) if path else None for path in (token, cookies, bundle)))
        if found.ca_file:
            _check_bundle(found.ca_file)
        return found

    def token(self) -> str:
        """The bearer token as it stands now, "" for none.

        Raises:
            ClusterError: its file cannot be read, or holds no token.
        """
        return _checked(self.token_file, TOKEN, "bearer token", spaces="")

    def cookies(self) -> str:
        """The value of the Cookie header as it stands now, such as `authservice_session=…`, "" for none."""
        return _checked(self.cookies_file, COOKIES, "cookies", spaces=" ")

    def source(self) -> str:
        """Say in words where they come from."""
        places = []
        if self.token_file or os.environ.get(TOKEN):
            places.append(f"the token of {self.token_file or TOKEN}")
        if self.cookies_file or os.environ.get(COOKIES):
            places.append(f"the cookies of {self.cookies_file or COOKIES}")
        return " and ".join(places) or "no token and no cookies"


def _checked(file: Path | None, variable: str, kind: str, spaces: str) -> str:
    """Refuse what http.client would refuse with an error that quotes it."""
    try:
        value = file.read_text(encoding="utf-8").strip() if file else os.environ.get(variable, "").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        shown = file if len(str(file)) < _LONGEST_SHOWN or "/" in str(file) else "*** (a token in place of a path?)"
        raise ClusterError(f"{shown}: the {kind} cannot be read ({reason}); give a file that holds it") from None
    place = file or variable
    if file and not value:
        raise ClusterError(f"{place}: is empty; write the {kind} there, one line")
    if not all(character in spaces or "!" <= character <= "~" for character in value):
        raise ClusterError(f"{place}: holds more than the {kind} on one line of ASCII; write it there again")
    return value


def _check_bundle(file: Path) -> None:
    try:
        ssl.create_default_context(cafile=str(file))
    except (OSError, ssl.SSLError) as error:
        raise ClusterError(f"{file}: no CA bundle in PEM ({error.strerror or error}); give the cluster's") from None
