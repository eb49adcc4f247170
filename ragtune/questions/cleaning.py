"""Texts and ids as corpora and questions store them, so that the two can be compared."""

import hashlib
import unicodedata


def clean(text: str) -> str:
    """Single spaces; no NUL, which databases end a text at, and no half characters, which UTF-8 cannot hold."""
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode("utf-8")
    return " ".join(text.replace("\0", " ").split())


def text_id(text: str) -> str:
    """The id that a text has by its content alone, `text-` and 16 hex digits.

    Passages carry it among their `source_ids`, so a question that knows its paragraph, as SQuAD's do, knows its gold
    passage in any corpus that holds the paragraph as a row.
    """
    normalized = unicodedata.normalize("NFC", clean(text))
    return f"text-{hashlib.blake2b(normalized.encode(), digest_size=8).hexdigest()}"
