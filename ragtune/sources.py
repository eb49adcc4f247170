"""What stands behind a URI now, as a hash: the key that makes caching right when data changes in place."""

import hashlib

from ragtune.errors import StorageError
from ragtune.files import content_hash

HUGGING_FACE_PREFIX = "hf://"


def fingerprint(*uris: str) -> str:
    """One SHA-256 (64 hex digits) over the contents behind several URIs; empty URIs count as absent.

    Local files, folders and fsspec URIs are hashed byte by byte. Of a Hugging Face dataset (`hf://owner/name`) the
    commit that it stands at is taken, so that nothing is downloaded.

    Raises:
        StorageError: nothing is there, or the hub cannot be reached.
    """
    parts = [_fingerprint_one(uri) if uri else "" for uri in uris]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _fingerprint_one(uri: str) -> str:
    if not uri.startswith(HUGGING_FACE_PREFIX):
        return content_hash(uri)
    from huggingface_hub import HfApi

    name = uri.removeprefix(HUGGING_FACE_PREFIX).removeprefix("datasets/").split(":")[0]
    try:
        return f"{uri}@{HfApi().dataset_info(name).sha}"
    except Exception as error:  # what the client raises for a lost connection changes with its HTTP library
        raise StorageError(f"{uri}: the Hugging Face hub did not say which commit it stands at: {error}") from error
