"""Text from the tokens of Natural Questions."""

import re
from collections.abc import Sequence

_HTML_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_RULES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"``|''", '"'),
        (r'"\s+([^"]*?)\s+"', r'"\1"'),
        (r'^([^"]*)\s+"$', r'\1"'),  # a quotation that begins before the span
        (r'^"\s+([^"]*)$', r'"\1'),  # or ends behind it
        (r"\s+([,.;:!?%)\]}])(?![\w.])", r"\1"),
        (r"([(\[{])\s+", r"\1"),
        (r"([$£€#−])\s+(?=\d)", r"\1"),
        (r"\b(US|A|C|NZ|HK) (?=\$)", r"\1"),
        (r"(?<=\d)\s+(?=°)", ""),
        (r"(?<!\d)(\d{1,3})\s?,\s?(\d{3})(?!\d)", r"\1,\2"),  # thousands; millions need the next one too
        (r"(?<=,\d{3})\s?,\s?(\d{3})(?!\d)", r",\1"),
        (r"(?<=\d)\s?:\s?(?=\d)", ":"),
        (r"(?<=\w)\s+([-–−/])\s?(?=\w)", r"\1"),
        (r"\b([A-Z])\s&\s([A-Z])\b", r"\1&\2"),
        (r"\s+(['’](?:s|d|m|ll|re|ve)|n['’]t)\b", r"\1"),
    )
)


def is_html(token: str) -> bool:
    """Tell whether a token of the simplified layout's `document_text` is markup, such as <P> or <Td_colspan="2">."""
    return _HTML_TAG.fullmatch(token) is not None


def detokenize(tokens: Sequence[str], adjacent: Sequence[bool] = ()) -> str:
    """Write tokens as a reader would: "150 , 782" is "150,782", "October 4 , 1988" is "October 4, 1988".

    Args:
        tokens: words and punctuation, without markup.
        adjacent: for each token whether it touched the one before in the document; () where unknown. Such pairs are
            joined as they were; all else goes by rules, since the tokens alone do not tell "1 - 2" from "1-2".
    """
    touching = adjacent or [False] * len(tokens)
    text = "".join(token if touches else f" {token}" for token, touches in zip(tokens, touching, strict=True))
    text = " ".join(text.split())
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text
