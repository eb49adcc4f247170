"""Reasons why a pod does not run, or has ended badly, each with its way out; pods are dicts of the Kubernetes API."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

INDEX = "batch.kubernetes.io/job-completion-index"
_PULL = ("ErrImagePull", "ImagePullBackOff", "RegistryUnavailable")
_NEVER = ("InvalidImageName", "ErrImageNeverPull")
_CONFIG = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_RETRIED_SECONDS = 120.0  # what the kubelet tries again may heal by itself
_NODES_SECONDS = 1800.0  # an autoscaler adds nodes within minutes; others' jobs end
_IMAGE_WAY = (
    "push it where the nodes can pull it, and compile the pipeline with that name (--registry, --tag); a private "
    "registry takes an imagePullSecret of the namespace's default service account"
)
_FIT_WAY = (
    "lower gpus, train_memory or train_cpus (each node of the job has them all), check gpu_resource, node_selector and "
    "tolerations, or add nodes; `kubectl describe nodes` tells what they have"
)


@dataclass(frozen=True)
class Trouble:
    """The reason why a pod waits.

    Attributes:
        text: the reason, and the way out.
        kind: for counting how long it lasts.
        seconds: the longest it may last, as it may go away by itself.
    """

    text: str
    kind: str
    seconds: float


def node_of(pod: Mapping[str, Any]) -> str:
    """The node's number in the job, such as "node 0", or the pod's name."""
    metadata = pod["metadata"]
    number = metadata.get("labels", {}).get(INDEX) or metadata.get("annotations", {}).get(INDEX)
    return f"node {number}" if number else metadata["name"]


def waits(pod: Mapping[str, Any]) -> Trouble | None:
    """The reason why a pod has not started; None where it has, or is about to."""
    for status in _statuses(pod):
        waiting = status.get("state", {}).get("waiting") or {}
        reason, message = waiting.get("reason", ""), waiting.get("message", "")
        told = f"{node_of(pod)}: {reason}" + (f": {message}" if message else "")
        if reason in (*_PULL, *_NEVER):
            told = f"{node_of(pod)}: image {status.get('image', '')} cannot be pulled ({reason}: {message})"
            return Trouble(f"{told}; {_IMAGE_WAY}", "image", 0.0 if reason in _NEVER else _RETRIED_SECONDS)
        if reason in _CONFIG:
            return Trouble(f"{told}; {_config_way(message, pod['metadata']['name'])}", reason, _RETRIED_SECONDS)
    for condition in pod.get("status", {}).get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            told = f"{node_of(pod)}: {condition.get('reason', 'not scheduled')}: {condition.get('message', '')}"
            return Trouble(f"{told}; {_FIT_WAY}", "unschedulable", _NODES_SECONDS)
    return None


def starts(pod: Mapping[str, Any]) -> bool:
    """True for a pod that has a node of the cluster, and no running container yet."""
    return pod.get("status", {}).get("phase") == "Pending"


def has_logs(pod: Mapping[str, Any]) -> bool:
    """True where a container has begun to write."""
    return any({"running", "terminated"} & set(status.get("state", {})) for status in _statuses(pod))


def has_ended(pod: Mapping[str, Any]) -> bool:
    """True for a pod that starts no more."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def ends(pods: Iterable[Mapping[str, Any]]) -> list[str]:
    """Why pods have ended badly, one text each, those of the kernel and the kubelet before mere exit codes."""
    found = sorted({told for pod in pods for told in _ends(pod)})
    return [text for _, text in found]


def _config_way(message: str, pod: str) -> str:
    if absent := re.search(r'secret "([^"]+)" not found', message):
        return (
            f"make it with `kubectl create secret generic {absent[1]} --from-env-file=credentials.env` in this "
            "namespace; docs/cluster.md, Credentials, has its keys"
        )
    return f"`kubectl describe pod {pod}`"


def _ends(pod: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    node, status = node_of(pod), pod.get("status", {})
    if reason := status.get("reason"):  # of the whole pod, such as Evicted
        yield 0, f"{node}: {reason}: {status.get('message', '')}"
    for each in _statuses(pod):
        for state in ("state", "lastState"):
            ended = each.get(state, {}).get("terminated") or {}
            if ended.get("reason") == "OOMKilled":
                yield 0, f"{node}: OOMKilled, train_memory was too little; raise it, or lower batch_size or n_docs"
            elif ended.get("exitCode"):
                yield 1, f"{node}: {ended.get('reason', 'Error')}, exit code {ended['exitCode']}"


def _statuses(pod: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [
        *pod.get("status", {}).get("initContainerStatuses", []),
        *pod.get("status", {}).get("containerStatuses", []),
    ]
