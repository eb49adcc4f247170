"""Filesystems behind URIs, the files in them, and what it means when one cannot be read."""

import contextlib
import zipfile
import zlib
from collections.abc import Iterator
from gzip import BadGzipFile
from lzma import LZMAError
from pathlib import Path
from typing import Any

import fsspec
from fsspec.utils import infer_compression

from ragtune.errors import RagtuneError, StorageError
from ragtune.uris import holds_secret

SILENCE_SECONDS = 60.0
"""How long an HTTP server may send nothing."""

_EXTRAS = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gs",
    "gcs": "gs",
    "abfs": "abfs",
    "abfss": "abfs",
    "az": "abfs",
    "adl": "abfs",
}
_COMPRESSION_ERRORS = (EOFError, zlib.error, BadGzipFile, LZMAError, zipfile.BadZipFile)


def filesystem_of(uri: str) -> tuple[Any, str]:
    """Return the fsspec filesystem behind a URI or local path, and the path in it.

    Raises:
        StorageError: its package is not installed, or there is no such kind of URI.
    """
    with readable(uri):
        schemes = [scheme for scheme in ("http", "https") if f"{scheme}://" in uri]
        return fsspec.url_to_fs(uri, **{scheme: _http_options(scheme) for scheme in schemes})


def files_of(uri: str) -> list[str]:
    """List the files behind a path, folder, glob or fsspec URI, in the order of their names; hidden ones are left out.

    Raises:
        StorageError: a folder or glob holds none, or such a URI cannot be read.
    """
    if is_http(uri):  # one file; asking for a folder would download it
        return [uri]
    filesystem, path = filesystem_of(uri)
    with readable(uri):
        filesystem.invalidate_cache()  # of listings, which lasts as long as the process
        if any(character in path for character in "*?[") and not filesystem.exists(path):
            files = sorted(filesystem.glob(path))
        elif filesystem.isdir(path):
            files = sorted(name for name in filesystem.find(path) if not Path(name).name.startswith((".", "_")))
        else:
            return [uri]
    if not files:
        raise StorageError(f"{uri}: no files there; check the path or URI")
    _, chained, archive = uri.partition("::")  # zip://*.jsonl::s3://bucket/archive.zip
    return files if "://" not in uri else [f"{filesystem.unstrip_protocol(name)}{chained}{archive}" for name in files]


def is_http(uri: str) -> bool:
    """Tell whether it is one file on an HTTP server."""
    return uri.lower().startswith(("http://", "https://"))


@contextlib.contextmanager
def readable(uri: str, line: int = 0) -> Iterator[None]:
    """Turn whatever a filesystem or decompressor raises into a StorageError that names the file and the last line.

    Every filesystem has exceptions of its own, of packages that may not be installed; the block must hold nothing but
    their calls.
    """
    try:
        yield
    except (RagtuneError, MemoryError):
        raise
    except Exception as error:
        told = StorageError(f"{uri}: {_explain(error, uri, line)}")
        # a traceback shows all causes, perhaps with a signed URL that the server redirected to
        raise told from (None if any(map(holds_secret, map(str, _causes(error)))) else error)


def not_utf8(file: str, line: int, error: UnicodeDecodeError) -> StorageError:
    """Make the error for text in another encoding."""
    return StorageError(f"{file}:{line}: is not UTF-8 ({error.reason}); convert it, for instance with iconv -t utf-8")


def _http_options(scheme: str) -> dict[str, Any]:
    """Give up on a silent server, but not on a long download as aiohttp does after five minutes; take bytes as sent.

    A server may call a `.gz` file an encoding, and aiohttp would unpack it.
    """
    from aiohttp import ClientTimeout

    timeout = ClientTimeout(total=None, sock_connect=SILENCE_SECONDS, sock_read=SILENCE_SECONDS)
    configured = {**fsspec.config.conf.get("http", {}), **fsspec.config.conf.get(scheme, {})}
    asked = {"timeout": timeout, "auto_decompress": False, **configured.get("client_kwargs", {})}
    return {"client_kwargs": {**asked, "headers": {"Accept-Encoding": "identity", **asked.get("headers", {})}}}


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__


def _explain(error: BaseException, uri: str, line: int) -> str:
    if is_http(uri) and isinstance(error, FileNotFoundError) and error.__cause__:
        error = error.__cause__  # fsspec calls every failure that
    after = f"after line {line:,}"
    status = getattr(error, "status", 0)
    if isinstance(error, BadGzipFile) and str(error).startswith("Not a gzipped file"):
        return f"is not gzip, though its name says so ({error}); rename it without .gz, or compress it"
    if isinstance(error, _COMPRESSION_ERRORS):
        kind = infer_compression(uri.partition("?")[0]) or "gzip"
        return f"broken {kind} {after} ({error}); copy or download it again"
    if isinstance(error, TimeoutError):
        return f"the server sent nothing for {SILENCE_SECONDS:g} s {after}; try again later"
    if status in (401, 403) or isinstance(error, PermissionError):
        return f"no permission to read it ({error}); check its mode and owner, or your credentials"
    if status in (404, 410) or isinstance(error, FileNotFoundError):
        return "no such file; check the path or URI"
    if status:
        return f"the server answers {status} ({getattr(error, 'message', '')}) {after}; try again later"
    if isinstance(error, IsADirectoryError):
        return "is a folder, a file is needed"
    if isinstance(error, ImportError):
        extra = _EXTRAS.get(uri.partition("://")[0].lower())
        return f"this kind of URI needs another package: {error}" + (
            f'; pip install "ragtune[{extra}]"' if extra else ""
        )
    if "Credential" in type(error).__name__:
        return f'no credentials for it ({error}); docs/data.md, "Secrets", says where they are looked for'
    if isinstance(error, ValueError) and not line:
        return f"cannot be read ({error})"
    return f"reading stopped {after} ({type(error).__name__}: {error})"
