"""What is said when a file breaks while it is being read."""

import contextlib
import gzip
import zlib
from collections.abc import Iterator

from ragtune.errors import StorageError


@contextlib.contextmanager
def readable(file: str, line: int = 0) -> Iterator[None]:
    """Turn the errors of gzip and of the disk or network into a StorageError that names the file and the last line."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise StorageError(f"{file}: broken gzip after line {line:,} ({error}); copy or download it again") from error
    except OSError as error:
        raise StorageError(f"{file}: reading stopped after line {line:,} ({error})") from error


def not_utf8(file: str, line: int, error: UnicodeDecodeError) -> StorageError:
    """The error for text in another encoding."""
    return StorageError(f"{file}:{line}: is not UTF-8 ({error.reason}); convert it, for instance with iconv -t utf-8")
