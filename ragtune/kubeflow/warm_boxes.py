"""The boxes of a local run as forks of one process that has imported their libraries already.

A box in a new Python spends most of a short run's time on importing torch, transformers and Feast. Each is a process of
its own here too; the one that it is forked from imports, forks and waits, and computes nothing that a fork could find
half done.
"""

import contextlib
import importlib
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

_SHELL = ("sh", "-ec")  # of a box's command: the shell's script, the box's code and its arguments follow
_IMPORTS = re.compile(r"^    from (ragtune[\w.]+) import", re.M)


class WarmBoxes:
    """The process that boxes are forked from."""

    def __init__(self, codes: Iterable[str]) -> None:
        """Start it; it imports what the boxes with these source texts import, while this process goes on."""
        self._modules = sorted({module for code in codes for module in _IMPORTS.findall(code)})
        self._ended = secrets.token_hex(8)  # opens the line that tells a box's status
        self._process = self._start()

    def _start(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "ragtune.kubeflow.warm_boxes", self._ended, *self._modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
            errors="replace",
        )

    def run(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
        """Run a box with its lines on our standard output; its exit status, negative for a signal's number.

        Args:
            command: as KFP starts a Python component: a shell, its script, the component's code, its arguments.
            environment: variables of the box beside this process's own.
        """
        if self._process.poll() is not None:  # ended with the box before, as by the kernel, which wanted memory
            self.end()
            self._process = self._start()
        assert self._process.stdin and self._process.stdout and tuple(command[:2]) == _SHELL, command[:2]
        print(json.dumps([command[3:], dict(environment or {})]), file=self._process.stdin, flush=True)
        for line in self._process.stdout:
            before, ended, status = line.rpartition(self._ended)
            if ended:
                print(before)  # what a box wrote last may lack the end of its line
                return int(status)
            print(line, end="")
        return self._process.wait()  # the process itself was ended, most likely together with the box

    def end(self) -> None:
        """End the process; it ends by itself where this one is killed."""
        assert self._process.stdin and self._process.stdout
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def _serve(ended: str, modules: Sequence[str]) -> Iterator[list]:
    """Import, then fork for every line of standard input; yields once, in the fork, what is to be run there."""
    for module in modules:
        with contextlib.suppress(ImportError):  # the box that needs it will say so
            importlib.import_module(module)
    for line in sys.stdin:
        if (box := os.fork()) == 0:
            yield json.loads(line)
            return
        _, status = os.waitpid(box, 0)
        print(f"{ended} {os.waitstatus_to_exitcode(status)}", flush=True)


def _main(ended: str, *modules: str) -> None:
    os.environ["_KFP_RUNTIME"] = "true"  # as KFP sets it in a box: kfp then imports the half that a box needs
    from kfp.dsl.executor_main import executor_main

    for (code, *arguments), environment in _serve(ended, modules):
        os.environ.update(environment)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # the next box's line is not this one's to read
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "ephemeral_component.py")
            path.write_text(code, encoding="utf-8")
            sys.argv = ["executor_main", "--component_module_path", str(path), *arguments]
            executor_main()


if __name__ == "__main__":
    _main(*sys.argv[1:])
