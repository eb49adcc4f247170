"""A call in a process of its own, which may die without taking the caller with it.

The processes are forked from one that has imported what they need (`multiprocessing`'s fork server): an import of torch
and transformers takes seconds, and a site has work in every round.
"""

import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

from ragtune import errors
from ragtune.errors import RagtuneError, TrainingError


def in_own_process(function: Callable[..., Any], *arguments: Any, imports: Sequence[str] = ()) -> Any:
    """Call a function of a module in another process, which ends if this one does.

    Args:
        function: returns what JSON can hold.
        arguments: JSON values and paths.
        imports: modules that are imported once for all calls of this process; the first call says which.

    Raises:
        RagtuneError: what the function raised, of its type.
        TrainingError: the process was killed, or raised something else.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*imports])
    answers, answer = context.Pipe(duplex=False)
    alive, living = context.Pipe(duplex=False)  # nothing is written: it ends with this process
    process = context.Process(target=_call, args=(answer, alive, function, arguments))
    process.start()
    answer.close()
    alive.close()
    try:
        outcome = json.loads(answers.recv_bytes())
    except EOFError:
        process.join()
        raise TrainingError(f"its process {_ended(process.exitcode or 0)}") from None
    finally:
        living.close()
        process.join()
        answers.close()
    if "error" in outcome:
        raise getattr(errors, outcome["error"], TrainingError)(outcome["message"])
    return outcome["returned"]


def _call(answer: Connection, alive: Connection, function: Callable[..., Any], arguments: Sequence[Any]) -> None:
    threading.Thread(target=_end_with_caller, args=(alive,), daemon=True).start()
    try:
        outcome = {"returned": function(*arguments)}
    except RagtuneError as error:
        outcome = {"error": type(error).__name__, "message": str(error)}
    except Exception as error:
        outcome = {"error": TrainingError.__name__, "message": f"{type(error).__name__}: {error}"}
    answer.send_bytes(json.dumps(outcome).encode())


def _end_with_caller(alive: Connection) -> None:
    try:
        alive.recv_bytes()
    except EOFError:
        os._exit(1)


def _ended(status: int) -> str:
    if status < 0:
        hint = "; too little memory? lower batch_size or n_docs" if status == -signal.SIGKILL else ""
        return f"was ended by {signal.Signals(-status).name}{hint}"
    return f"ended with status {status}"
