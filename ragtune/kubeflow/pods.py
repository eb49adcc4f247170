"""Pods of the boxes on a cluster: volume, credentials, memory, processors, GPUs. Nothing of it has an effect locally.

Every resource is a text: KFP's driver reads a resource's parameter as one, and skips a number without a word.
"""

from typing import Any

from kfp import dsl, kubernetes

WORKSPACE = "/workspace"  # where the volume is mounted in every pod
SECRET = "ragtune"  # noqa: S105 (its name; one for all credentials, optional, as are its keys)
CREDENTIALS = (
    "HF_TOKEN",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "RAGTUNE_MILVUS_TOKEN",
)
SECRET_FILES = "/etc/ragtune/secret"  # noqa: S105 (FSSPEC_CONFIG_DIR of the images: the Secret's key fsspec.json)
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 (for processes of one training; the pod's own, not a temporary file)
_CPU_REQUEST = "1"  # a box works with less than its limit, but not with less memory


def place(
    task: dsl.PipelineTask,
    volume: Any,
    *,
    memory: Any,
    cpus: Any,
    gpus: Any = "",
    gpu_resource: Any = "",
    node_selector: Any,
    tolerations: Any,
) -> None:
    """Give a box what it needs of a cluster.

    Args:
        task: the box.
        volume: name of the claim that is mounted at `WORKSPACE`.
        memory, cpus: limits, such as "64Gi" and "8".
        gpus: "" for a box that takes none; such a box gets no shared memory either.
        gpu_resource: such as "nvidia.com/gpu".
        node_selector: labels of the nodes that may run it, {} for any.
        tolerations: as in a pod, [] for none.
    """
    kubernetes.mount_pvc(task, pvc_name=volume, mount_path=WORKSPACE)
    kubernetes.use_secret_as_env(task, SECRET, {key: key for key in CREDENTIALS}, optional=True)
    kubernetes.use_secret_as_volume(task, SECRET, SECRET_FILES, optional=True)
    kubernetes.add_node_selector_json(task, node_selector)
    kubernetes.add_toleration_json(task, tolerations)
    task.set_cpu_request(_CPU_REQUEST).set_cpu_limit(cpus)
    task.set_memory_request(memory).set_memory_limit(memory)
    if gpus != "":
        task.set_accelerator_type(gpu_resource).set_accelerator_limit(gpus)
        kubernetes.empty_dir_mount(task, "shared-memory", _SHARED_MEMORY, medium="Memory")
