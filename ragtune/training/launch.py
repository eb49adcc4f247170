"""Start a run in processes of its own, show what they say, and come back with their figures or their error."""

import difflib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections import deque
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ragtune import errors
from ragtune.errors import RagtuneError, TrainingError
from ragtune.locks import IN_USE, locked
from ragtune.training.arguments import RagTrainingArguments, RunFiles
from ragtune.training.ranges import SHORT_NAMES

ENDS_WITH_STARTER = "RAGTUNE_ENDS_WITH_STARTER"  # environment variable: the run ends when its standard input does
_TAIL_LINES = 100
_KILLED = re.compile(r"Signal \d+ \(SIG(?!TERM)\w+\) received")  # torchrun itself sends SIGTERM to the others
_EXCEPTION = re.compile(r"^(?:\[rank\d+\]: *)?[\w.]+(?:Error|Exception|Interrupt): ")


def finetune(
    dataset_folder: str | Path,
    knowledge_base_folder: str | Path,
    output_folder: str | Path,
    work_folder: str | Path,
    *,
    model_folder: str | Path = "",
    question_encoder: str | Path = "",
    passage_encoder: str | Path = "",
    generator: str | Path = "",
    closed_book_folder: str | Path = "",
    trained_knowledge_base_folder: str | Path = "",
    tensorboard_folder: str | Path = "",
    milvus_uri: str = "",
    tracking_uri: str = "",
    trust_remote_code: bool = False,
    processes: int = 1,
    **parameters: Any,
) -> dict[str, float]:
    """Fine-tune a model in one or several processes on this machine.

    Killed and started again with the same inputs and parameters it goes on from its last whole checkpoint in
    `work_folder`; with others it starts anew beside it. When it is done, the model stands in `output_folder` with
    `training_log.json` in it, and the checkpoints are gone.

    Args:
        dataset_folder, knowledge_base_folder, output_folder, work_folder: see `RunFiles`.
        model_folder: the base model; or `question_encoder`, `passage_encoder` and `generator` by name or path.
        closed_book_folder: where the closed-book baseline goes; "" trains none.
        trained_knowledge_base_folder: of the knowledge base that rag-end2end makes; "" is beside the given one.
        tensorboard_folder: of the event files, which stay.
        milvus_uri: reach the knowledge base's Milvus there instead of where its feature_store.yaml says.
        tracking_uri: MLflow's, for the curves, a run a stage; "" tells it nothing.
        trust_remote_code: run code that comes with a model.
        processes: 1, or several with torchrun; 0 is one a GPU.
        parameters: of `RagTrainingArguments`; `batch_size` is short for `per_device_train_batch_size`.

    Returns:
        steps, train_loss, seconds, samples_per_second, tokens_per_second, search_fraction, best_step, best_em,
        best_loss; of rag-end2end refreshes and refresh_seconds; of the baseline, with the prefix `closed_book_`.

    Raises:
        TrainingError, ModelError, KnowledgeBaseError, StorageError: what stopped the run, and the way out.
    """
    from torch.cuda import device_count

    files = RunFiles(
        dataset_folder=str(dataset_folder),
        knowledge_base_folder=str(knowledge_base_folder),
        output_folder=str(output_folder),
        work_folder=str(work_folder),
        model_folder=str(model_folder),
        question_encoder=str(question_encoder),
        passage_encoder=str(passage_encoder),
        generator=str(generator),
        closed_book_folder=str(closed_book_folder),
        trained_knowledge_base_folder=str(trained_knowledge_base_folder),
        milvus_uri=milvus_uri,
        tracking_uri=tracking_uri,
        trust_remote_code=trust_remote_code,
    )
    if processes < 0:
        raise TrainingError(f"processes={processes}: must be at least 1, or 0 for one a GPU")
    parameters = _long_names(parameters)
    with tempfile.TemporaryDirectory(prefix="ragtune-") as exchange, locked(Path(exchange) / IN_USE):
        outcome_file = Path(exchange) / "outcome.json"
        arguments = asdict(files) | {"tensorboard_folder": str(tensorboard_folder)} | parameters
        (Path(exchange) / "arguments.json").write_text(
            json.dumps(arguments | {"outcome_file": str(outcome_file)}), encoding="utf-8"
        )
        count = processes or max(1, device_count())
        status, tail = _stream(_command(count, str(Path(exchange) / "arguments.json")), _environment(count))
        outcome = json.loads(outcome_file.read_text(encoding="utf-8")) if outcome_file.exists() else {}
    if status == 0 and "results" in outcome:
        return outcome["results"]
    raise _failure(status, outcome, tail)


def _long_names(parameters: dict[str, Any]) -> dict[str, Any]:
    known = {field.name for field in fields(RagTrainingArguments) if field.init} - {"output_dir"}
    parameters = {SHORT_NAMES.get(name, name): value for name, value in parameters.items()}
    for name in parameters:
        if name not in known:
            near = difflib.get_close_matches(name, [*known, *SHORT_NAMES], n=1)
            hint = f"did you mean {near[0]}?" if near else "see RagTrainingArguments"
            raise TrainingError(f"{name}: no such training parameter; {hint}")
    return parameters


def _command(processes: int, arguments_file: str) -> list[str]:
    if processes == 1:
        return [sys.executable, "-m", "ragtune.training", arguments_file]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return [*torchrun, "-m", "ragtune.training", arguments_file]


def _environment(processes: int) -> dict[str, str]:
    threads = str(max(1, (os.cpu_count() or 1) // processes))
    ours = {"PYTHONUNBUFFERED": "1", ENDS_WITH_STARTER: "1"}
    return {"OMP_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false"} | os.environ | ours


def _stream(command: list[str], environment: dict[str, str]) -> tuple[int, list[str]]:
    """Run a command with its output on our stderr; its status, and its last lines.

    Its standard input is a pipe that nothing is written to: it ends when this process does, however that happens, and
    tells the run's processes to end too, so that none is left holding the knowledge base.
    """
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        try:
            for line in process.stdout or ():
                tail.append(line.rstrip())
                print(line, end="", file=sys.stderr, flush=True)
        except BaseException:
            process.terminate()
            raise
    return process.returncode, list(tail)


def _failure(status: int, outcome: dict[str, Any], tail: list[str]) -> RagtuneError:
    if "message" in outcome:
        kind = getattr(errors, outcome["error"], TrainingError)
        return kind(outcome["message"])
    how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    hint = "; too little memory? lower batch_size or n_docs" if "SIGKILL" in how + last_reason(tail) else ""
    return TrainingError(f"the run {how} ({last_reason(tail)}){hint}; the same call goes on from its last checkpoint")


def last_reason(tail: list[str]) -> str:
    """Why a process ended, from its last lines: torchrun's on a killed one, else the last exception, else the last."""
    for pattern in (_KILLED, _EXCEPTION, re.compile(r"\S")):
        for line in reversed(tail):
            if pattern.search(line):
                return line.strip()
    return "it said nothing"
