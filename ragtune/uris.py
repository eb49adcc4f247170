"""URIs as they may be shown: without passwords, tokens and signatures."""

import re
from urllib.parse import unquote_plus

HIDDEN = "***"

_URI = re.compile(r"([A-Za-z][\w+.-]*)://(?!/)(\S*)")  # as it stands in a text; without a host it holds no password
_NAME = re.compile(r"[?&;#]([^=&;?#\s]+)=")
_VALUE = re.compile(rf"(?!{re.escape(HIDDEN)})\S+?(?=[:,.)\]]*(?:[&#'\"\s]|;[^=&;?#\s]+=|$))")
_SECRET_NAME = re.compile(
    r".*(signature|token|secret|passw|passphrase|credential|apikey|api[-_]key|accesskey).*"
    r"|(.*[-_.])?(sig|key|pass|pwd|pw|auth|sas|jwt|hmac|bearer|session|sessionid)",
    re.I,
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
    return _without_values(text).encode("utf-8", "backslashreplace").decode()


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


def _without_values(text: str) -> str:
    """Hide the values of secret queries, also of those in a URI that is itself a value, as proxies take them."""
    shown_parts = []
    start = 0
    for name in _NAME.finditer(text):
        value = _VALUE.match(text, name.end())
        if value and name.end() >= start and _is_secret(name[1], value[0]):
            shown_parts += [text[start : name.end()], HIDDEN]
            start = value.end()
    return "".join(shown_parts) + text[start:]


def _is_secret(name: str, value: str) -> bool:
    decoded = unquote_plus(value)
    return _SECRET_NAME.fullmatch(unquote_plus(name)) is not None or (decoded != value and holds_secret(decoded))
