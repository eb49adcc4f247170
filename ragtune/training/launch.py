"""Start a run in processes of its own, and return its results or raise its error."""

import difflib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ragtune import errors
from ragtune.errors import TrainingError
from ragtune.locks import IN_USE, locked
from ragtune.settings.training import SHORT_NAMES
from ragtune.sources import check_no_secrets
from ragtune.training.arguments import RagTrainingArguments, RunFiles
from ragtune.training.launchers import LAUNCHERS
from ragtune.training.launchers.base import Launcher

_EXCHANGE = ".launch."  # of a temporary folder's name, by which `ragtune gc` knows one that was left behind


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
    launcher: str | Launcher = "torchrun",
    **parameters: Any,
) -> dict[str, float]:
    """Fine-tune a model in one or several processes, on this machine or wherever a launcher starts them.

    Killed and started again with the same inputs and parameters it resumes from its last whole checkpoint in
    `work_folder`; with others it starts over beside it. When it is done, the model is in `output_folder` with
    `training_log.json` in it, and the checkpoints are gone.

    Args:
        dataset_folder, knowledge_base_folder, output_folder, work_folder: see `RunFiles`.
        model_folder: the base model; or `question_encoder`, `passage_encoder` and `generator` by name or path.
        closed_book_folder: where the closed-book baseline goes; "" trains none.
        trained_knowledge_base_folder: of the knowledge base that rag-end2end makes; "" is beside the given one.
        tensorboard_folder: of the event files, which stay.
        milvus_uri: reach the knowledge base's Milvus there instead of where its feature_store.yaml says.
        tracking_uri: MLflow's, for the curves, one run per stage; "" logs none there.
        trust_remote_code: run code that comes with a model.
        processes: how many; 0 means one per GPU.
        launcher: where they run: one of `ragtune.training.launchers.LAUNCHERS`, or a launcher of one's own. Arguments
            and outcome travel as files in a temporary folder in `work_folder`, which all processes must see.
        parameters: of `RagTrainingArguments`; `batch_size` is short for `per_device_train_batch_size`.

    Returns:
        steps, train_loss, seconds, samples_per_second, tokens_per_second, search_fraction, best_step, best_em,
        best_loss; of rag-end2end refreshes and refresh_seconds; of the baseline, with the prefix `closed_book_`.

    Raises:
        TrainingError, ModelError, KnowledgeBaseError, StorageError: what stopped the run, and the way out.
        ParameterError: a parameter holds a secret, which would be written into `work_folder`.
    """
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
        raise TrainingError(f"processes={processes}: must be at least 1, or 0 for one per GPU")
    if isinstance(launcher, str):
        if launcher not in LAUNCHERS:
            raise TrainingError(f"launcher={launcher}: must be one of {', '.join(LAUNCHERS)}")
        launcher = LAUNCHERS[launcher]()
    arguments = asdict(files) | {"tensorboard_folder": str(tensorboard_folder)} | _long_names(parameters)
    check_no_secrets(arguments)
    with _exchange(Path(work_folder)) as folder:
        outcome_file, arguments_file = folder / "outcome.json", folder / "arguments.json"
        arguments_file.write_text(json.dumps(arguments | {"outcome_file": str(outcome_file)}), encoding="utf-8")
        ended = None
        try:
            launcher.run(arguments_file, processes)
        except TrainingError as error:
            ended = error
        outcome = _outcome(outcome_file)
    if "message" in outcome:
        raise getattr(errors, outcome["error"], TrainingError)(outcome["message"])
    if "results" in outcome:  # the model stands where it was asked for, however the processes ended after that
        return outcome["results"]
    nowhere = f"{work_folder}: the run left no results there; do all its processes see that folder?"
    raise ended or TrainingError(nowhere)


@contextmanager
def _exchange(work_folder: Path) -> Iterator[Path]:
    """A folder that no other run reads or writes, locked as long as it is needed; absolute.

    Raises:
        TrainingError: the work folder may not be written.
    """
    try:
        work_folder.mkdir(parents=True, exist_ok=True)
        holder = tempfile.TemporaryDirectory(prefix=_EXCHANGE, dir=work_folder.absolute(), ignore_cleanup_errors=True)
    except OSError as error:
        raise TrainingError(f"{work_folder}: cannot be written ({error.strerror}); choose another folder") from error
    with holder as folder, locked(Path(folder) / IN_USE):
        yield Path(folder)


def _outcome(file: Path) -> dict[str, Any]:
    """Read the outcome that a run has left; {} where there is none, or the run was killed while it wrote."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}


def _long_names(parameters: dict[str, Any]) -> dict[str, Any]:
    known = {field.name for field in fields(RagTrainingArguments) if field.init and not field.name.endswith("_token")}
    known -= {"output_dir"}
    parameters = {SHORT_NAMES.get(name, name): value for name, value in parameters.items()}
    for name in parameters:
        if name not in known:
            near = difflib.get_close_matches(name, [*known, *SHORT_NAMES], n=1)
            hint = f"did you mean {near[0]}?" if near else "see RagTrainingArguments"
            raise TrainingError(f"{name}: no such training parameter; {hint}")
    return parameters
