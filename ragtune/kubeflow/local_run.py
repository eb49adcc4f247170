"""The DAG on one machine: `kfp.local` runs each box in a process, with its lines on the terminal and in a log."""

import contextlib
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from google.protobuf.json_format import MessageToDict
from kfp import local
from kfp.dsl.graph_component import GraphComponent
from kfp.local import subprocess_task_handler

from ragtune.errors import RagtuneError
from ragtune.files import atomic_file
from ragtune.kubeflow.box_log import BoxLog, ended_with
from ragtune.kubeflow.package import Package
from ragtune.kubeflow.run_folder import box_metrics, finish, only_run
from ragtune.kubeflow.warm_boxes import WarmBoxes
from ragtune.sources import check_no_secrets

Runner: TypeAlias = local.SubprocessRunner | local.DockerRunner
_FORKS = sys.platform == "linux"  # libraries of macOS' own do not survive one
_Starter: TypeAlias = Callable[..., int]
_RUN_LOCAL_SUBPROCESS = subprocess_task_handler.run_local_subprocess


def run_here(
    pipeline: GraphComponent, parameters: dict[str, Any], output: Path, runner: Runner | None = None
) -> dict[str, float]:
    """Run a DAG on this machine, each box in a process or a container of its own.

    Args:
        pipeline: what `@dsl.pipeline` made.
        parameters: of the pipeline, by name.
        output: the run's own folder, where metrics, report and model end.
        runner: kfp's, for containers; None starts processes.

    Returns:
        The metrics of all boxes.

    Raises:
        ParameterError: a parameter holds a secret.
        StorageError: another run is under way in `output`, or has been.
        RagtuneError: a box failed; it is named, with what ended it.
    """
    check_no_secrets(parameters)
    with only_run(output):
        boxes = output.absolute() / "boxes"
        boxes.mkdir()  # a container's engine would make it for itself alone
        with atomic_file(output / "parameters.json") as stream:
            json.dump(parameters, stream, indent=2)
        box_log = _run_boxes(pipeline, parameters, boxes, output / "log.txt", runner)
        figures = finish(output, boxes, box_log.seconds)
    return figures


def _run_boxes(
    pipeline: GraphComponent, parameters: dict[str, Any], boxes: Path, log_path: Path, runner: Runner | None
) -> BoxLog:
    local.init(runner or local.SubprocessRunner(use_venv=False), pipeline_root=str(boxes))
    warnings.filterwarnings("ignore", module="kfp")  # images, resources and volumes have no effect here
    subprocess_task_handler.replace_python_executable = _with_this_python
    tasks = len(Package("", MessageToDict(pipeline.pipeline_spec)).boxes())
    with open(log_path, "a", encoding="utf-8") as log:
        box_log = BoxLog(log, sys.stdout, tasks, lambda box: box_metrics(boxes, box))
        try:
            with box_starter(pipeline, runner) as start, contextlib.redirect_stdout(box_log):
                subprocess_task_handler.run_local_subprocess = start
                pipeline(**parameters)
        except (RuntimeError, ValueError) as error:  # of a container that failed kfp misses the outputs
            reason = f"{box_log.failed}: {box_log.failure}" if box_log.failed else str(error)
            raise RagtuneError(f"{reason}\nThe whole log: {log_path}") from error
    return box_log


def _with_this_python(command: list[str], executable: str) -> list[str]:
    """In place of kfp's own, which also rewrites "python3" inside parameters, such as a path to lib/python3.11/."""
    return [part.replace("python3 -m kfp", f"{executable} -m kfp") for part in command]


@contextlib.contextmanager
def box_starter(pipeline: GraphComponent, runner: Runner | None) -> Iterator[_Starter]:
    """The start of boxes, in place of kfp's own, which keeps to itself whether an exception or a signal ended one."""
    if isinstance(runner, local.DockerRunner):
        yield _RUN_LOCAL_SUBPROCESS  # which is not called
        return
    executors = pipeline.pipeline_spec.deployment_spec["executors"].values()
    codes = [list(executor["container"]["command"])[-1] for executor in executors]
    boxes = WarmBoxes(codes) if _FORKS else None

    def start(full_command: list[str], env_vars: dict[str, str] | None = None) -> int:
        status = (boxes.run if boxes else _RUN_LOCAL_SUBPROCESS)(full_command, env_vars)
        print(ended_with(status))
        return status

    try:
        yield start
    finally:
        if boxes:
            boxes.end()
