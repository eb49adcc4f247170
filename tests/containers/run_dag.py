"""The whole DAG in containers that may do no more than a restricted pod, and in processes; both with one outcome.

python tests/containers/run_dag.py OUTPUT [NAME=VALUE ...]
"""

import os
import sys
from pathlib import Path

import docker.types
from kfp import local

from pipeline import rag_finetuning
from ragtune.kubeflow.local_run import run_here
from ragtune.kubeflow.parameters import check_values, read_parameters, with_defaults
from ragtune.kubeflow.run_folder import summary
from ragtune.settings.pipeline import names_in_kfp

RESTRICTED = {  # as OpenShift's restricted-v2: a user nobody knows, group 0, nothing writable but volumes and /tmp
    "user": "1000650000:0",
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "tmpfs": {"/tmp": "rw,mode=1777"},
    "environment": {"HOME": "/"},
}
SHORT = ["max_steps=20", "eval_steps=10", "max_test_questions=20"]
SAME = ("em", "f1", "rougeL", "recall@1", "recall@5", "mrr@10", "loss")  # of before, after and closed-book


def in_containers(parameters: dict, output: Path) -> dict[str, float]:
    os.umask(0)  # folders as a volume looks to a pod that may write there
    (workspace := output.with_name("workspace")).mkdir(parents=True)
    mounts = [docker.types.Mount("/workspace", str(workspace), type="bind")]
    runner = local.DockerRunner(network_mode="host", mounts=mounts, **RESTRICTED)
    return run_here(rag_finetuning, names_in_kfp(parameters | {"workspace": "/workspace"}), output, runner)


def main(output: Path, *sets: str) -> None:
    parameters = read_parameters(rag_finetuning.pipeline_func, "params/demo.yaml", [*SHORT, *sets])
    check_values(with_defaults(rag_finetuning.pipeline_func, parameters))
    contained = in_containers(parameters, output / "containers")
    print(summary(contained, output / "containers"))
    beside = names_in_kfp(parameters | {"workspace": str(output / "here")})
    here = run_here(rag_finetuning, beside, output / "processes")
    for name in sorted(here):
        if name.startswith(SAME) and abs(here[name] - contained[name]) > 1e-6:
            sys.exit(f"{name}: {contained[name]} in containers, {here[name]} in processes")
    print("the same figures in containers and in processes")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), *sys.argv[2:])
