"""`python -m ragtune.training` or `torchrun -m ragtune.training`: one process of a run.

Arguments are those of `RunFiles` and `RagTrainingArguments`, as --name value, or one JSON file that holds them.
"""

import contextlib
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import HfArgumentParser
from transformers.utils import logging

from ragtune.companion import wait_for_end
from ragtune.errors import RagtuneError, TrainingError
from ragtune.training.arguments import RagTrainingArguments, RunFiles
from ragtune.training.launchers.torchrun import ENDS_WITH_STARTER
from ragtune.training.run import run


def main(arguments: Sequence[str]) -> int:
    """Run; 0 if it went well, 1 after an error, reported in one line if the user can fix it."""
    groups: list[Any] = [RunFiles, RagTrainingArguments]
    parser = HfArgumentParser(groups, prog="ragtune.training", allow_abbrev=False)
    given: dict[str, Any] = {}
    try:
        given = _given(parser, arguments)
        if os.environ.get(ENDS_WITH_STARTER):
            threading.Thread(target=_end_with_starter, daemon=True).start()
        _run(parser, given)
    except RagtuneError as error:
        return _fail(given, type(error).__name__, " ".join(str(error).split()))
    except Exception as error:
        traceback.print_exc()
        if "by peer" in str(error):  # another process of the run has died, and why is for that one to say
            return 1
        return _fail(given, TrainingError.__name__, f"{type(error).__name__}: {error}")
    if dist.is_initialized():
        dist.destroy_process_group()
    return 0


def _end_with_starter() -> None:
    """Wait for the end of standard input, the starter's pipe: see `ragtune.training.launchers.torchrun`."""
    wait_for_end()
    os.kill(os.getpid(), signal.SIGTERM)


def _given(parser: HfArgumentParser, arguments: Sequence[str]) -> dict[str, Any]:
    if len(arguments) == 1 and arguments[0].endswith(".json"):
        try:
            return json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise TrainingError(f"{arguments[0]}: cannot be read as JSON ({error})") from error
    return vars(parser.parse_args(arguments))


def _run(parser: HfArgumentParser, given: dict[str, Any]) -> None:
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        files, args = parser.parse_dict(given)
        run(files, args, published=lambda results: _leave(given, {"results": results}))
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"the GPU's memory is full ({str(error).splitlines()[0]}); lower per_device_train_batch_size and raise "
            "gradient_accumulation_steps instead, lower n_docs or max_input_tokens, or set activation_checkpointing"
        ) from error


def _fail(given: dict[str, Any], kind: str, message: str) -> int:
    print(f"ragtune.training: {message}", file=sys.stderr, flush=True)
    with contextlib.suppress(TrainingError):  # the folder for it is gone, and the line above tells
        _leave(given, {"error": kind, "message": message})
    return 1


def _leave(given: dict[str, Any], outcome: dict[str, Any]) -> None:
    """Tell whoever started the run; of several processes that fail the first tells why.

    Raises:
        TrainingError: it cannot be written.
    """
    if path := given.get("outcome_file"):
        try:
            with open(path, "x", encoding="utf-8") as stream:
                json.dump(outcome, stream)
        except FileExistsError:
            return
        except OSError as error:
            raise TrainingError(
                f"{path}: the run's outcome cannot be left there ({error.strerror}); start it again with the same "
                "parameters: what it has trained is kept"
            ) from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
