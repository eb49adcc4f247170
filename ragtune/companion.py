"""A process beside this one that serves it, and ends with it, however that happens."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ragtune import errors
from ragtune.errors import RagtuneError

_END_SECONDS = 20.0
_announcements = 1  # where a companion's starter reads


@contextmanager
def companion(module: str, *arguments: str) -> Iterator[dict[str, Any]]:
    """Run `python -m module` as long as the context lasts; what it announces is yielded.

    Its standard input is a pipe that nothing is written to and that ends when this process does.

    Raises:
        RagtuneError: the type and message that it announces instead, or that it ended without a word.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert process.stdin and process.stdout
    try:
        line = process.stdout.readline()
        if not line:
            raise RagtuneError(f"python -m {module} ended with status {process.wait()} before it served; see above")
        announced = json.loads(line)
        if "error" in announced:
            raise getattr(errors, announced["error"])(announced["message"])
        yield announced
    finally:
        process.stdin.close()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


@contextmanager
def announced_errors() -> Iterator[None]:
    """In a companion, first of all: a RagtuneError goes to its starter, as what `companion` raises.

    Whatever is printed goes to stderr from now on: the starter reads what is announced, and nothing else.
    """
    global _announcements
    _announcements = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        yield
    except RagtuneError as error:
        announce({"error": type(error).__name__, "message": str(error)})
        sys.exit(1)


def announce(what: dict[str, Any]) -> None:
    """In a companion, inside or after `announced_errors`: tell the starter, once."""
    os.write(_announcements, f"{json.dumps(what)}\n".encode())


def wait_for_end() -> None:
    """Wait until the starter that holds standard input open wants this process's end, or has ended itself."""
    with suppress(KeyboardInterrupt):
        while os.read(sys.stdin.fileno(), 1):
            continue
