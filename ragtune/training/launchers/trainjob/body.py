"""The TrainJob of a run, as the API takes it: image, nodes, resources, environment, volumes."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ragtune.errors import TrainingError
from ragtune.training.launchers.trainjob.logs import CONTAINER

STEP = "node"  # the runtime's replicated job that trains
MANAGED = {"app.kubernetes.io/managed-by": "ragtune"}
_NO_MESH = {"sidecar.istio.io/inject": "false"}  # a sidecar would keep the nodes from each other, and from ending
_CPU_REQUEST = "1"  # nodes work with less than their limit, and Kubernetes would request all of it
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 (for NCCL and data loaders; the pod's own, not a temporary file)


@dataclass(frozen=True)
class Pod:
    """Parts of a step's pod that the job's pods take over, as in the Kubernetes API.

    Attributes:
        image: of the container.
        env, volumes, volume_mounts: of it and for it.
        placement: nodeSelector, tolerations, affinity, imagePullSecrets, those that there are.
    """

    image: str
    env: list[dict[str, Any]] = field(default_factory=list)
    volumes: list[dict[str, Any]] = field(default_factory=list)
    volume_mounts: list[dict[str, Any]] = field(default_factory=list)
    placement: dict[str, Any] = field(default_factory=dict)

    def claim_of(self, folder: Path) -> str:
        """The volume claim that a folder is on, by its mount.

        Raises:
            TrainingError: none is mounted there, so that the job's nodes would not see the folder.
        """
        claims = {volume["name"]: volume.get("persistentVolumeClaim", {}).get("claimName") for volume in self.volumes}
        for mount in sorted(self.volume_mounts, key=lambda mount: -len(mount["mountPath"])):
            if folder.is_relative_to(mount["mountPath"]) and claims.get(mount["name"]):
                return claims[mount["name"]]
        raise TrainingError(
            f"launcher=trainjob: {folder} is on no volume claim of this pod, so that the job's nodes would not see it; "
            "let workspace be a folder on the claim workspace_volume, mounted at /workspace"
        )


def train_job(
    name: str,
    arguments_file: Path,
    pod: Pod,
    *,
    runtime: Mapping[str, str],
    nodes: int,
    processes: int,
    limits: Mapping[str, str],
    environment: Mapping[str, str],
) -> dict[str, Any]:
    """The body of a TrainJob.

    Args:
        name: of the job.
        arguments_file: of `python -m ragtune.training`.
        pod: as the step's own.
        runtime: its name and kind.
        nodes: how many; each has `processes` and `limits`.
        processes: on each node.
        limits: cpu, memory and GPUs; memory and GPUs are requested too, of the processors one.
        environment: goes before the step's own.
    """
    threads = max(1, _whole(limits.get("cpu", "1")) // processes)
    given = {variable["name"]: variable for variable in pod.env}
    ours = {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": str(threads), "RAGTUNE_IMAGE": pod.image} | dict(environment)
    given |= {key: {"name": key, "value": value} for key, value in ours.items()}
    volumes, mounts = _with_shared_memory(pod)
    container = {"name": CONTAINER, "volumeMounts": mounts}
    template = {
        "metadata": {"labels": _NO_MESH},
        "spec": {**pod.placement, "volumes": volumes, "containers": [container]},
    }
    patch = {"name": STEP, "template": {"spec": {"template": template}}}
    requests = dict(limits)
    if _whole(limits.get("cpu", "0")) > 1:
        requests["cpu"] = _CPU_REQUEST
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": name, "labels": MANAGED},
        "spec": {
            "runtimeRef": {"apiGroup": "trainer.kubeflow.org", **runtime},
            "trainer": {
                "image": pod.image,
                "command": ["python", "-m", "torch.distributed.run"],
                "args": ["-m", "ragtune.training", str(arguments_file)],
                "env": list(given.values()),
                "numNodes": nodes,
                "numProcPerNode": processes,
                "resourcesPerNode": {"limits": dict(limits), "requests": requests},
            },
            "runtimePatches": [
                {
                    "manager": "ragtune/finetune",
                    "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [patch]}}},
                }
            ],
        },
    }


def pod_from(own: Mapping[str, Any] | None, task_config: Any) -> Pod:
    """The step's pod: what KFP hands on goes first, then what stands in the pod itself, then RAGTUNE_IMAGE.

    Args:
        own: the pod as the API tells it; None where it cannot be read.
        task_config: kfp's dsl.TaskConfig, whose fields may all be None, or None.

    Raises:
        TrainingError: nothing tells the image.
    """
    spec = (own or {}).get("spec", {})
    container: Mapping[str, Any] = next((each for each in spec.get("containers", []) if each["name"] == "main"), {})
    image = container.get("image") or os.environ.get("RAGTUNE_IMAGE", "")
    if not image:
        raise TrainingError("launcher=trainjob: this step's image is not known; set RAGTUNE_IMAGE to its name")
    names = {"node_selector": "nodeSelector", "tolerations": "tolerations", "affinity": "affinity"}
    placement = {
        key: value for name, key in names.items() if (value := getattr(task_config, name, None) or spec.get(key))
    }
    if secrets := spec.get("imagePullSecrets"):
        placement["imagePullSecrets"] = secrets
    volumes = getattr(task_config, "volumes", None)
    mounts = getattr(task_config, "volume_mounts", None)
    if not volumes or not mounts:
        volumes = [volume for volume in spec.get("volumes", []) if "persistentVolumeClaim" in volume]
        kept = {volume["name"] for volume in volumes}
        mounts = [mount for mount in container.get("volumeMounts", []) if mount["name"] in kept]
    secret = [variable for variable in container.get("env", []) if "secretKeyRef" in variable.get("valueFrom", {})]
    return Pod(image, list(getattr(task_config, "env", None) or secret), volumes, mounts, placement)


def _with_shared_memory(pod: Pod) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    if any(mount["mountPath"] == _SHARED_MEMORY for mount in pod.volume_mounts):
        return pod.volumes, pod.volume_mounts
    volume = {"name": "shared-memory", "emptyDir": {"medium": "Memory"}}
    return [*pod.volumes, volume], [*pod.volume_mounts, {"name": volume["name"], "mountPath": _SHARED_MEMORY}]


def _whole(processors: str) -> int:
    """Whole processors of an amount such as "8", "1.5" or "500m"."""
    return int(processors[:-1]) // 1000 if processors.endswith("m") else int(float(processors))
