"""Fingerprints of what stands behind URIs now: they keep caching right when data change in place."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from ragtune.errors import ParameterError
from ragtune.files import content_hash
from ragtune.questions.hub_dataset import HubDataset
from ragtune.reading import files_of, filesystem_of, readable
from ragtune.uris import holds_secret, shown

# What filesystems call a tag that changes with the content, and the time of the last change.
_TAGS = ("ETag", "etag", "Content-MD5", "md5Hash", "blob_id")
_TIMES = ("LastModified", "Last-Modified", "last_modified", "updated", "mtime", "modified", "created")


def fingerprint(*uris: str) -> str:
    """One SHA-256 (64 hex digits) over the contents behind several URIs; empty URIs count as absent.

    Local files are hashed byte by byte. Remote ones are not downloaded: their ETag counts, or their size and time of
    change; only where the server tells neither are their bytes hashed. Of a Hugging Face dataset
    (`hf://owner/name?split=…`) it is the commit that it stands at.

    Raises:
        StorageError: nothing is there, or the server or hub cannot be reached.
    """
    parts = [_fingerprint_one(uri) if uri else "" for uri in uris]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def check_no_secrets(values: Mapping[str, Any]) -> None:
    """Refuse parameters with passwords or signatures in URIs: parameters are stored, and shown to many.

    Raises:
        ParameterError: a value, or one in a mapping, holds a secret.
    """
    for name, value in values.items():
        if isinstance(value, Mapping):
            check_no_secrets(value)
        elif isinstance(value, list):
            check_no_secrets({f"{name}[{place}]": element for place, element in enumerate(value)})
        elif isinstance(value, str) and "://" in value and holds_secret(value):
            raise ParameterError(
                f"{name}={shown(value)}: holds a secret (here ***), and parameters are stored and shown. Give it in the"
                ' environment, or on a cluster in a Secret (docs/data.md, "Secrets"); write an @ of the path as %40'
            )


def _fingerprint_one(uri: str) -> str:
    dataset = HubDataset.parse(uri)
    if dataset is None:
        with readable(uri):
            is_local = "://" not in uri and Path(uri).exists()
        return content_hash(uri) if is_local else "\n".join(map(_file_fingerprint, files_of(uri)))
    return f"{uri}@{content_hash(dataset.name) if dataset.is_local else dataset.commit()}"


def _file_fingerprint(uri: str) -> str:
    filesystem, path = filesystem_of(uri)
    if isinstance(filesystem, LocalFileSystem):
        return content_hash(uri)
    with readable(uri):
        facts = filesystem.info(path)
    tag = next((facts[name] for name in _TAGS if facts.get(name)), None)
    changed = next((facts[name] for name in _TIMES if facts.get(name)), None)
    if tag is None and (changed is None or facts.get("size") is None):
        return content_hash(uri)
    return f"{shown(uri)} {tag or (facts['size'], changed)}"
