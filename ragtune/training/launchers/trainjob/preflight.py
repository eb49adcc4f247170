"""Questions to a cluster before a job is made: Trainer, its runtime, the step's own pod, the claim's access modes."""

import os
import socket
from collections.abc import Mapping
from typing import Any

from ragtune.errors import ClusterError
from ragtune.training.launchers.trainjob.cluster import TRAINER, Cluster, RefusedError
from ragtune.training.launchers.trainjob.logs import CONTAINER

TRAINER_RELEASE = "v2.3.0"  # deploy/kind.sh reads it here
_MANIFESTS = "https://github.com/kubeflow/trainer/manifests/overlays"
_INSTALL = f'`kubectl apply --server-side -k "{_MANIFESTS}/manager?ref={TRAINER_RELEASE}"`'
_RUNTIMES = f'`kubectl apply --server-side -k "{_MANIFESTS}/runtimes?ref={TRAINER_RELEASE}"`'
_MANY, _ONE_POD = "ReadWriteMany", "ReadWriteOncePod"


def find_job(cluster: Cluster, path: str) -> dict[str, Any] | None:
    """Return the TrainJob at a path, None where there is none.

    Raises:
        ClusterError: the cluster has no TrainJobs at all, or refuses to tell.
    """
    try:
        return cluster.find(path)
    except RefusedError as error:
        if error.status != 404:
            raise
        raise ClusterError(
            f"launcher=trainjob: Kubeflow Trainer is not installed in this cluster; an administrator installs it with "
            f"{_INSTALL}, or take launcher=torchrun"
        ) from error


def runtime(cluster: Cluster, name: str) -> dict[str, str]:
    """Name and kind of a runtime that starts torchrun; the namespace's own goes before the cluster's.

    Raises:
        ClusterError: there is none of that name, or it starts something else.
    """
    places = {
        "TrainingRuntime": cluster.of_namespace("trainingruntimes", name, TRAINER),
        "ClusterTrainingRuntime": f"{TRAINER}/clustertrainingruntimes/{name}",
    }
    hidden = False
    for kind, path in places.items():
        try:
            found = cluster.find(path)
        except RefusedError as error:
            if error.status not in (403, 404):
                raise
            hidden, found = hidden or error.status == 403, None  # it may be there: creating the job will tell
        if found is not None:
            _check_runtime(name, found)
            return {"name": name, "kind": kind}
    if hidden:
        return {"name": name, "kind": "ClusterTrainingRuntime"}
    raise ClusterError(
        f"training_runtime={name}: is not installed; an administrator installs those of Kubeflow Trainer with "
        f"{_RUNTIMES}; `kubectl get clustertrainingruntimes` tells which there are"
    )


def own_pod(cluster: Cluster) -> dict[str, Any] | None:
    """Return the pod that this process runs in, None outside of pods."""
    name = os.environ.get("KFP_POD_NAME") or os.environ.get("HOSTNAME") or socket.gethostname()
    return cluster.find(cluster.of_namespace("pods", name))


def is_evicted(cluster: Cluster) -> bool:
    """True where this pod makes room for another or loses its node; False where its run was stopped, or nothing tells.

    Kubernetes marks such a pod before it sends SIGTERM. KFP then starts the step again.
    """
    try:
        conditions = (own_pod(cluster) or {}).get("status", {}).get("conditions", [])
    except ClusterError:
        return False
    return any(each["type"] == "DisruptionTarget" and each["status"] == "True" for each in conditions)


def check_claim(cluster: Cluster, claim: str, nodes: int) -> None:
    """Refuse a volume claim that several pods on several nodes cannot mount.

    Raises:
        ClusterError: its access modes do not go with so many nodes.
    """
    try:
        found = cluster.find(cluster.of_namespace("persistentvolumeclaims", claim))
    except RefusedError as error:
        if error.status != 403:
            raise
        return  # a role may do without: pods that cannot mount it are told then
    modes = (found or {}).get("spec", {}).get("accessModes", [_MANY])
    if _MANY in modes or (nodes == 1 and _ONE_POD not in modes):
        return
    way = "set nodes=1, or " if nodes > 1 and _ONE_POD not in modes else ""
    raise ClusterError(
        f"workspace_volume={claim}: its access modes are {', '.join(modes)}, but the step and {nodes} nodes mount it "
        f"at once; {way}make a claim of {_MANY} (NFS, CephFS, Filestore, EFS, Azure Files), as `kubectl apply -k "
        "deploy/kubeflow` does where the storage has that"
    )


def events(cluster: Cluster, job: str) -> str:
    """The newest warning about anything of a job, as " (reason: message)"; "" where none is, or may be read."""
    try:
        found = cluster.get(cluster.of_namespace("events"), fieldSelector="type=Warning").get("items", [])
    except RefusedError:
        return ""
    own = [each for each in found if each["involvedObject"].get("name", "").startswith(job)]
    if not own:
        return ""
    newest = max(own, key=lambda each: each.get("lastTimestamp") or each.get("eventTime") or "")
    return f" ({newest.get('reason', '')}: {newest.get('message', '')})"


def _check_runtime(name: str, found: Mapping[str, Any]) -> None:
    spec = found.get("spec", {})
    if "torch" not in spec.get("mlPolicy", {}):
        raise ClusterError(f"training_runtime={name}: does not run torch; choose one whose spec.mlPolicy has torch")
    steps = spec.get("template", {}).get("spec", {}).get("replicatedJobs", [])
    names = {container["name"] for step in steps for container in _pod_spec(step).get("containers", [])}
    if CONTAINER not in names:
        raise ClusterError(
            f"training_runtime={name}: has no container {CONTAINER}, which Kubeflow Trainer wants; see its own "
            "torch-distributed"
        )


def _pod_spec(step: Mapping[str, Any]) -> Mapping[str, Any]:
    return step.get("template", {}).get("spec", {}).get("template", {}).get("spec", {})
