"""Damage to a version's files, told from a disk or network that fails now."""

from collections.abc import Iterable
from pathlib import Path

from ragtune.errors import UnavailableError
from ragtune.files import content_hash


def raise_if_unavailable(path: str | Path, error: Exception) -> None:
    """Raise where an error says nothing of a file's content; return where it is missing or of no such format.

    Libraries raise an OSError without a number for a format that they cannot read.

    Raises:
        UnavailableError: the system could not read it, say for a stale handle.
    """
    missing = isinstance(error, FileNotFoundError | NotADirectoryError)
    if isinstance(error, OSError) and error.errno is not None and not missing:
        raise UnavailableError(
            f"{path}: cannot be read ({error.strerror}), which need not be damage; nothing was changed. Check its "
            "volume, then run again"
        ) from error


def checksums_of(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of some files of a folder, by name, without those that are not there."""
    return {name: content_hash(folder / name) for name in names if (folder / name).exists()}


def damaged_files(folder: Path, checksums: dict[str, str], names: Iterable[str] = ()) -> list[str]:
    """The names of files that are gone, or hold other bytes than were written; all of them are read.

    Args:
        folder: that they are in.
        checksums: of `checksums_of`, when they were written.
        names: to look at; empty looks at all that have a checksum.

    Raises:
        StorageError: one cannot be read.
    """
    wanted = {name: digest for name, digest in checksums.items() if not names or name in names}
    found = checksums_of(folder, wanted)
    return [name for name, digest in wanted.items() if found.get(name) != digest]
