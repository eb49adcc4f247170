"""Progress of long work: a bar in a terminal, a line every few seconds in a log."""

import re
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
_LOG_EVERY_SECONDS = 5.0
PROGRESS_LINE = re.compile(r"[\w ]+: [\d,]+ .*/s\b.*")  # what a line of `progress` looks like, for those who pass it on


def say(line: str) -> None:
    """Print a line on stderr at once."""
    print(line, file=sys.stderr, flush=True)


def progress(items: Iterable[T], what: str, total: int | None = None, unit: str = "it") -> Iterator[T]:
    """Yield `items` while showing how far, how fast and how long still, on stderr.

    Args:
        items: what is worked through.
        what: a word or two for the line, such as "embedding".
        total: how many items there are; `len(items)` where it is known.
        unit: what one item is called, such as "passages".
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty():
        yield from tqdm(items, desc=what, total=total, unit=f" {unit}")
        return
    start = last = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= _LOG_EVERY_SECONDS:
            last = now
            say(_line(what, done, total, unit, now - start))


def _line(what: str, done: int, total: int | None, unit: str, seconds: float) -> str:
    speed = done / seconds
    if total is None:
        return f"{what}: {done:,} {unit}, {speed:,.1f}/s"
    return f"{what}: {done:,} of {total:,} {unit}, {speed:,.1f}/s, {(total - done) / speed:,.0f} s to go"
