"""Files written whole or not at all, and read from any place: local paths, fsspec URIs, gzip or plain."""

import contextlib
import ctypes
import errno
import hashlib
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from fsspec.utils import infer_compression

from ragtune.errors import StorageError
from ragtune.reading import filesystem_of, is_http, readable

_HASH_CHUNK_BYTES = 1 << 20
_OS_ERROR = re.compile(r"\(os error (\d+)\)")  # in the words of a library in Rust, such as safetensors
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux


def open_uri(uri: str | Path, mode: str = "rb") -> Any:
    """Open a local path or an fsspec URI; what ends in .gz, .bz2 or .xz is unpacked while it is read.

    Use it as a context manager: `with open_uri("s3://bucket/questions.jsonl.gz", "rt") as lines:`.

    Raises:
        StorageError: nothing is there, it may not be read, or its server does not answer.
    """
    uri = str(uri)
    compression = infer_compression(uri.partition("?")[0] if is_http(uri) else uri)
    return _open(uri, mode, None if compression == "zip" else compression)


def _open(uri: str, mode: str, compression: str | None) -> Any:
    options: dict[str, Any] = {"encoding": "utf-8"} if "t" in mode else {}
    if is_http(uri):  # as one stream: some servers know no ranges, or refuse the HEAD that asks for the size
        options |= {"block_size": 0, "size": 1}
    with readable(uri):
        filesystem, path = filesystem_of(uri)
        stream = filesystem.open(path, mode, compression=compression, **options)
        stream.filesystem = filesystem  # an archive's closes the archive when it is collected
        return stream


def content_hash(uri: str | Path) -> str:
    """SHA-256 of the bytes behind a local file, folder or fsspec URI, as 64 hex digits.

    A folder's hash covers the relative names and the bytes of its files, in the order of their names.
    """
    digest = hashlib.sha256()
    root = Path(str(uri))
    if "://" not in str(uri) and root.is_dir():
        for path in sorted(path for path in root.rglob("*") if path.is_file()):
            name = os.fsencode(path.relative_to(root).as_posix())
            digest.update(name + f"\0{content_hash(path)}\n".encode())
        return digest.hexdigest()
    with readable(str(uri)), _open(str(uri), "rb", None) as stream:
        while chunk := stream.read(_HASH_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `target`; rename it to `target` if the block succeeds, delete it if it fails.

    The block may make a file or a folder of it. What stood at `target` before is replaced in the end, so a reader sees
    the old or the new whole, never a half: see `put_in_place`.

    Raises:
        StorageError: the disk is full or the place may not be written.
    """
    target = Path(target)
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        holder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        temporary = holder / target.name
        try:
            yield temporary
            flush_to_disk(temporary)
            put_in_place(temporary, target)
        finally:
            shutil.rmtree(holder, ignore_errors=True)
    except OSError as error:
        raise describe_write_error(error, target) from error
    except Exception as error:
        if number := _OS_ERROR.search(str(error)):
            raise describe_write_error(OSError(int(number[1]), str(error)), target) from error
        raise


@contextlib.contextmanager
def atomic_file(target: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """As `atomic_path`, with the temporary file opened for writing (UTF-8 text unless `mode` has a b)."""
    with (
        atomic_path(target) as temporary,
        open(temporary, mode, encoding=None if "b" in mode else "utf-8") as stream,
    ):
        yield stream


def remove_folder(folder: Path) -> None:
    """Remove a folder, which nobody finds any more from the first moment on.

    Whoever is killed meanwhile leaves it under the hidden name `.<name>.…` beside, and never half of it under its own.
    """
    shutil.rmtree(_put_aside(folder), ignore_errors=True)


def describe_write_error(error: OSError, target: str | Path) -> Exception:
    """The StorageError for a failed write, with the way out; an error not about the disk comes back as it is."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(f"{target}: the disk is full; nothing was left there; free some space and run again")
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return StorageError(f"{target}: may not be written ({error.strerror}); choose another output folder")
    return error


def flush_to_disk(path: Path) -> None:
    """Have the disk hold a file, or all files below a folder, before they get the name by which they count."""
    for file in [path] if path.is_file() else path.rglob("*"):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def put_in_place(new: Path, target: Path) -> None:
    """Rename a file or folder to `target`, and remove what stood there.

    A folder that replaces a folder is swapped with it in one step on Linux, on file systems that can (ext4, xfs, tmpfs,
    overlayfs …; not NFS). Elsewhere there is a moment between two renames in which nothing stands at `target`; whoever
    is killed in it leaves the old folder under the hidden name `.<name>.…` beside.
    """
    replaced = None
    if target.is_dir() and not target.is_symlink():  # a rename cannot overwrite a folder that is not empty
        replaced = new if _swap(new, target) else _put_aside(target)
    if replaced != new:
        new.replace(target)
    flush_folder(target.parent)
    if replaced is not None:
        shutil.rmtree(replaced, ignore_errors=True)


def _put_aside(folder: Path) -> Path:
    """Give a folder the hidden name `.<name>.…` beside, by which `ragtune gc` knows it."""
    return folder.rename(folder.with_name(f".{folder.name}.{secrets.token_hex(4)}"))


def _swap(one: Path, other: Path) -> bool:
    """Exchange two names in one step; False, and nothing done, where kernel or file system cannot."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)  # glibc 2.28; Python has no function for it
    if renameat2 is None:
        return False
    return bool(renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)


def flush_folder(folder: Path) -> None:
    """Make the new name outlive a power cut; file systems that know no such thing are left alone."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
