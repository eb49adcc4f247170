"""One run of the whole DAG on the sample, in processes or in containers that may do no more than a restricted pod.

python tests/containers/run_dag.py processes|containers OUTPUT [NAME=VALUE ...]
"""

import os
import sys
from pathlib import Path
from typing import Any

import docker.types
from kfp import local

from pipeline import rag_finetuning
from ragtune.knowledge.address import TOKEN_VARIABLE
from ragtune.kubeflow.local_run import run_here
from ragtune.kubeflow.parameters import check_values, read_parameters, with_defaults
from ragtune.kubeflow.pods import fitted
from ragtune.kubeflow.run_folder import summary

RESTRICTED = {  # as OpenShift's restricted-v2: a user nobody knows, group 0, nothing writable but volumes and /tmp
    "user": "1000650000:0",
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "tmpfs": {"/tmp": "rw,mode=1777"},
    "environment": {"HOME": "/"},
}
SHORT = ["max_steps=20", "eval_steps=10", "max_test_questions=20"]


def in_containers(parameters: dict, output: Path) -> dict[str, float]:
    os.umask(0)  # folders as a volume looks to a pod that may write there
    limits: dict[str, Any] = dict(RESTRICTED)
    if parameters.get("workspace_volume") == "":  # each container has a folder of its own there
        limits["tmpfs"] = {**limits["tmpfs"], "/workspace": "rw,mode=1777"}
        limits["environment"] = limits["environment"] | {TOKEN_VARIABLE: os.environ.get(TOKEN_VARIABLE, "")}
    else:
        (workspace := output.with_name(f"{output.name}-workspace")).mkdir(parents=True)
        limits["mounts"] = [docker.types.Mount("/workspace", str(workspace), type="bind")]
    runner = local.DockerRunner(network_mode="host", **limits)
    return run_here(*fitted(rag_finetuning, parameters | {"workspace": "/workspace"}), output, runner)


def in_processes(parameters: dict, output: Path) -> dict[str, float]:
    beside = {"workspace": str(output.with_name(f"{output.name}-workspace"))}
    return run_here(*fitted(rag_finetuning, parameters | beside), output)


def main(where: str, output: Path, *sets: str) -> None:
    parameters = read_parameters(rag_finetuning.pipeline_func, "params/demo.yaml", [*SHORT, *sets])
    check_values(with_defaults(rag_finetuning.pipeline_func, parameters))
    run = {"processes": in_processes, "containers": in_containers}[where]
    print(summary(run(parameters, output), output))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]).absolute(), *sys.argv[3:])
