"""A knowledge base's name and its Milvus server's address: checked before anything is opened."""

import re
import socket
import time
from urllib.parse import urlsplit

from ragtune.errors import KnowledgeBaseError, UnavailableError
from ragtune.uris import holds_secret

TOKEN_VARIABLE = "RAGTUNE_MILVUS_TOKEN"  # noqa: S105 (the name of the variable)
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_]*")


def check_name(name: str) -> None:
    """Raise KnowledgeBaseError where Feast would, or where the name would lead to another folder."""
    if not _NAME.fullmatch(name):
        raise KnowledgeBaseError(
            f'knowledge base name "{name}": only letters, digits and _, with a letter first, as Feast demands'
        )


def check_milvus_uri(uri: str) -> None:
    """Raise KnowledgeBaseError unless `uri` is one of a Milvus server, without a password."""
    if holds_secret(uri):
        raise KnowledgeBaseError(
            f"the Milvus URI holds a password; put it into the environment variable {TOKEN_VARIABLE} as "
            "user:password, so that it is never written to disk"
        )
    parts = urlsplit(uri)
    try:
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, or too large
        known = False
    if not known:
        raise KnowledgeBaseError(f"{uri}: is no URI of a Milvus server, such as http://127.0.0.1:19530")


def wait_until_listening(uri: str, seconds: float, http_port: int = 19530, what: str = "Milvus") -> None:
    """Return when something listens at a server's address.

    Args:
        uri: of the server.
        seconds: to wait for it.
        http_port: where the URI names none.
        what: the server, for the message.

    Raises:
        UnavailableError: nothing does for so many seconds.
    """
    parts = urlsplit(uri)
    address = (parts.hostname or "localhost", parts.port or (443 if parts.scheme == "https" else http_port))
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(address, timeout=seconds / 2).close()
            return
        except OSError as error:
            if time.monotonic() >= deadline:
                raise UnavailableError(
                    f"{uri}: no {what} answers there ({error}); tried for {seconds:.0f} s. Is it running, and "
                    "is this its URI?"
                ) from error
        time.sleep(0.5)
