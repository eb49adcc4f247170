"""URIs as they may be shown: without passwords, tokens and signatures."""

import re
from urllib.parse import unquote_plus

HIDDEN = "***"

_URI = re.compile(r"([A-Za-z][\w+.-]*)://(?!/)(\S*)")  # as it stands in a text; without a host it holds no password
_QUERY = re.compile(rf"([?&;#]([^=&;?#\s]+)=)(?!{re.escape(HIDDEN)})(\S+?)(?=[:,.)\]]*(?:[&#'\"\s]|$))")
_SECRET_NAME = re.compile(
    r".*(signature|token|secret|passw|credential|apikey|api[-_]key|accesskey).*|(.*[-_.])?(sig|key|pwd|auth|sas)", re.I
)
_COLON_IS_NO_PASSWORD = ("github",)  # github://owner:repository@revision/path


def shown(text: str) -> str:
    """Hide the secrets of all URIs in a text, and write what is not UTF-8 (in file names) as escapes.

    Hidden are a user's name with a password, also one with a "/", any user of http(s), and the values of queries such
    as `X-Amz-Signature`, `sig` and `token`. Where it is not certain that something is a secret, it is hidden too.

    >>> shown("http://me:a/b@host/x?sig=abc&page=2: no such file")
    'http://***@host/x?sig=***&page=2: no such file'
    """
    text = _URI.sub(_without_user, text)
    text = _QUERY.sub(lambda match: f"{match[1]}{HIDDEN}" if _is_secret(match[2]) else match[0], text)
    return text.encode("utf-8", "backslashreplace").decode()


def holds_secret(text: str) -> bool:
    """Tell whether `shown` hides a part of it."""
    return text.encode("utf-8", "backslashreplace").decode() != shown(text)


def _without_user(match: re.Match[str]) -> str:
    scheme, rest = match[1], match[2]
    user, at, host = rest.rpartition("@")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if not at or user == HIDDEN:
        return match[0]
    if scheme.lower() in ("http", "https") and "@" in authority:
        secret = True
    elif scheme.lower() in _COLON_IS_NO_PASSWORD:
        secret = False
    else:  # host:80/name@revision, too, could be a name and a password with a "/"
        secret = ":" in authority
    return f"{scheme}://{HIDDEN}@{host}" if secret else match[0]


def _is_secret(name: str) -> bool:
    return _SECRET_NAME.fullmatch(unquote_plus(name)) is not None
