"""What stands behind a URI now, as a hash: the key that makes caching right when data changes in place."""

import hashlib
from pathlib import Path
from urllib.parse import parse_qs

from ragtune.errors import StorageError
from ragtune.files import content_hash
from ragtune.questions.rows import files_of

HUGGING_FACE_PREFIX = "hf://"


def fingerprint(*uris: str) -> str:
    """One SHA-256 (64 hex digits) over the contents behind several URIs; empty URIs count as absent.

    Local files, folders, globs and fsspec URIs are hashed byte by byte. Of a Hugging Face dataset
    (`hf://owner/name?split=…`) the commit that it stands at is taken, so that nothing is downloaded.

    Raises:
        StorageError: nothing is there, or the hub cannot be reached.
    """
    parts = [_fingerprint_one(uri) if uri else "" for uri in uris]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _fingerprint_one(uri: str) -> str:
    if not uri.startswith(HUGGING_FACE_PREFIX):
        return content_hash(uri) if Path(uri).exists() else "\n".join(map(content_hash, files_of(uri)))
    name, _, query = uri.removeprefix(HUGGING_FACE_PREFIX).removeprefix("datasets/").partition("?")
    if Path(name).is_absolute():  # a dataset in a local folder
        return f"{uri}@{content_hash(name)}"
    from huggingface_hub import HfApi

    revision = parse_qs(query).get("revision", [None])[-1]
    try:
        return f"{uri}@{HfApi().dataset_info('/'.join(name.split('/')[:2]), revision=revision).sha}"
    except Exception as error:  # what the client raises for a lost connection changes with its HTTP library
        raise StorageError(f"{uri}: the Hugging Face hub did not say which commit it stands at: {error}") from error
