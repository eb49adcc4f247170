"""All that can be known to be wrong before a site joins: its folders, its server, and the server's certificate."""

import socket
import ssl
import tomllib
from pathlib import Path
from typing import Any

from ragtune.errors import ClusterError, ParameterError
from ragtune.federation.client_app import read_site
from ragtune.federation.own_process import in_own_process
from ragtune.federation.site import IMPORTS, Site, call, named

_ANSWER_WITHIN_SECONDS = 10.0


def check_site(file: str | Path) -> Site:
    """Read a site's TOML, `--node-config` of its SuperNode, and check what it names, as its first round would.

    Raises:
        RagtuneError: a folder is missing, the site has no data, its settings are not a site's to choose or not possible
            here, or data, knowledge base and model do not go together.
    """
    try:
        config: dict[str, Any] = tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ParameterError(f"{file}: cannot be read as TOML ({error}); see docs/federation.md for one") from error
    site = read_site(config)
    with named(site.name):
        in_own_process(call, "check", vars(site), site.with_own({}), imports=IMPORTS)
    return site


def check_server(address: str, root_certificates: str | Path) -> None:
    """Connect to a SuperLink by TLS, as a SuperNode will; nothing is sent.

    Args:
        address: HOST:PORT.
        root_certificates: PEM file of the certificate authority that has signed the server's certificate.

    Raises:
        ClusterError: nothing answers, it speaks no TLS, or its certificate is not one to trust.
        ParameterError: the address or the file is none.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ParameterError(f"{address}: no HOST:PORT, such as superlink.example.org:8000")
    try:
        context = ssl.create_default_context(cafile=str(root_certificates))
    except (OSError, ssl.SSLError) as error:
        raise ParameterError(
            f"{root_certificates}: no certificates in PEM ({error}); ask the server's side for ca.crt"
        ) from error
    host = host.strip("[]")
    try:
        with (
            socket.create_connection((host, int(port)), _ANSWER_WITHIN_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=host),
        ):
            return
    except ssl.SSLCertVerificationError as error:
        raise ClusterError(
            f"{address}: its certificate is not to be trusted ({error.verify_message}); give the certificate of the "
            f"authority that signed it instead of {root_certificates}, or an address that the certificate names"
        ) from error
    except ssl.SSLError as error:
        raise ClusterError(
            f"{address}: speaks no TLS ({error.reason}); start flower-superlink with --ssl-certfile"
        ) from error
    except OSError as error:
        raise ClusterError(
            f"{address}: does not answer ({error}); is flower-superlink running there with --host and --port, and the "
            "way to it open?"
        ) from error
