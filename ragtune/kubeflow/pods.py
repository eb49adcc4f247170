"""Pods of the boxes on a cluster: volume, credentials, memory, processors, GPUs. Nothing of it has an effect locally.

Every resource is a text: KFP's driver reads a resource's parameter as one, and skips a number without a word.
"""

import inspect
from collections.abc import Mapping
from typing import Any

from kfp import dsl, kubernetes
from kfp.dsl.graph_component import GraphComponent
from kfp.dsl.pipeline_channel import PipelineChannel
from kfp.dsl.structures import ResourceSpec

from ragtune.kubeflow.nodes import SECRET, SECRET_FILES
from ragtune.settings.pipeline import names_in_kfp

VOLUME = "cluster_workspace_volume"  # the pipeline's parameter
WORKSPACE = "/workspace"  # where the volume is mounted in every pod
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
    "RAY_ADDRESS",
    "RAY_AUTH_MODE",
    "RAY_AUTH_TOKEN",
)
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 (for processes of one training; the pod's own, not a temporary file)
_CPU_REQUEST = "1"  # a box works with less than its limit, but not with less memory


def without_volume(pipeline: GraphComponent) -> GraphComponent:
    """The same pipeline with no volume in its pods, and without the parameter that names one.

    Pods are mounted their volumes when the pipeline is compiled, so no parameter can leave one out.
    """
    function = pipeline.pipeline_func
    signature = inspect.signature(function)
    own = signature.replace(parameters=[each for name, each in signature.parameters.items() if name != VOLUME])

    def pipeline_without_volume(*values: Any) -> Any:
        return function(**own.bind(*values).arguments, **{VOLUME: ""})

    pipeline_without_volume.__doc__ = function.__doc__
    pipeline_without_volume.__signature__ = own  # type: ignore[attr-defined]  # what kfp reads
    return dsl.pipeline(name=f"{pipeline.name}-without-volume")(pipeline_without_volume)


def fitted(pipeline: GraphComponent, values: Mapping[str, Any]) -> tuple[GraphComponent, dict[str, Any]]:
    """The pipeline that a run's values ask for, with a volume or without, and the values by their names in KFP."""
    named = names_in_kfp(values)
    if named.get(VOLUME) == "":
        del named[VOLUME]
        return without_volume(pipeline), named
    return pipeline, named


def mounts_none(volume: Any) -> bool:
    """True where a pipeline is compiled without a volume; a parameter's placeholder compares as true with any text."""
    return isinstance(volume, str) and not volume


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
        volume: name of the claim that is mounted at `WORKSPACE`; "" mounts a folder that ends with the pod.
        memory, cpus: limits, such as "64Gi" and "8".
        gpus: "" for a box that takes none; such a box gets no shared memory either.
        gpu_resource: such as "nvidia.com/gpu".
        node_selector: labels of the nodes that may run it, {} for any.
        tolerations: as in a pod, [] for none.
    """
    if mounts_none(volume):
        kubernetes.empty_dir_mount(task, "scratch", WORKSPACE)
    else:
        kubernetes.mount_pvc(task, pvc_name=volume, mount_path=WORKSPACE)
    kubernetes.use_secret_as_env(task, SECRET, {key: key for key in CREDENTIALS}, optional=True)
    kubernetes.use_secret_as_volume(task, SECRET, SECRET_FILES, optional=True)
    kubernetes.add_node_selector_json(task, node_selector)
    kubernetes.add_toleration_json(task, tolerations)
    resources = (memory, cpus, gpus, gpu_resource)  # which KFP hands into groups of tasks only when it is told of them
    task.register_pipeline_channels([value for value in resources if isinstance(value, PipelineChannel)])
    # At once: each of KFP's setters looks through all loaded modules for its caller's name, a quarter of a second.
    asked = ResourceSpec(_CPU_REQUEST, str(cpus), str(memory), str(memory))
    task.container_spec.resources = asked
    if gpus != "":
        asked.accelerator_type, asked.accelerator_count = str(gpu_resource), str(gpus)
        kubernetes.empty_dir_mount(task, "shared-memory", _SHARED_MEMORY, medium="Memory")
