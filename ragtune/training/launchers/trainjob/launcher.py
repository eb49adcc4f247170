"""A run's processes as a TrainJob: made or found again, watched until it ends, its nodes' logs on stderr."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ragtune.errors import ClusterError, TrainingError
from ragtune.progress import say
from ragtune.training.launchers.base import Launcher, last_reason
from ragtune.training.launchers.trainjob import body, pod_states, preflight
from ragtune.training.launchers.trainjob.cluster import TRAINER, Cluster, RefusedError
from ragtune.training.launchers.trainjob.logs import Logs
from ragtune.training.launchers.trainjob.shared_folder import SharedFolder, shared_folder
from ragtune.training.launchers.trainjob.termination import sigterm_as_exit

_PODS = "jobset.sigs.k8s.io/jobset-name={},jobset.sigs.k8s.io/replicatedjob-name in (launcher, node)"
_DELETED_WITHIN_SECONDS = 120.0
_MADE_SECONDS = 300.0  # for a job's pods to be made
_START_SECONDS = 1800.0  # for their containers to start on a node; images have gigabytes


@dataclass(frozen=True)
class TrainJob(Launcher):
    """Nodes of a cluster, by Kubeflow Trainer.

    The job is named after the run's arguments, so that a step that was started again finds the job that it has made.
    What ends the step but not the run (an eviction, a server that is gone) leaves the job running; a run that is
    stopped or deleted, of which the step hears by SIGTERM, ends it.

    Attributes:
        nodes: each runs `processes` processes and has `gpus`, `memory` and `cpus`.
        gpus: of the resource `gpu_resource`, such as amd.com/gpu.
        memory, cpus: as Kubernetes has them; "" leaves them to the runtime.
        runtime: name of a TrainingRuntime of the namespace, or of a ClusterTrainingRuntime.
        environment: of the processes, such as NCCL's settings.
        keep: leave the job in the cluster when it has ended.
        task_config: kfp's dsl.TaskConfig of the step, handed on to the nodes; None where there is none.
        namespace: "" is the pod's own.
        every: seconds between two looks.
        patience: factor of the time given to faults that may heal by themselves.
    """

    nodes: int = 1
    gpus: int = 1
    gpu_resource: str = "nvidia.com/gpu"
    memory: str = ""
    cpus: str = ""
    runtime: str = "torch-distributed"
    environment: Mapping[str, str] = field(default_factory=dict)
    keep: bool = False
    task_config: Any = None
    namespace: str = ""
    every: float = 5.0
    patience: float = 1.0

    def run(self, arguments_file: Path, processes: int) -> None:
        """As `Launcher.run`, with `processes` on each node; 0 means one per GPU.

        Raises:
            ClusterError: the cluster refuses, or is gone.
            TrainingError: the job failed or cannot start, with the nodes' own reason.
        """
        cluster = Cluster(self.namespace)
        with shared_folder(arguments_file) as folder, sigterm_as_exit():
            pod = body.pod_from(preflight.own_pod(cluster), self.task_config)
            claim = pod.claim_of(folder.path)
            watch, made = _Watch(self, cluster, folder, folder.name_on(claim)), False
            try:
                if not watch.found():
                    preflight.check_claim(cluster, claim, self.nodes)
                    job = self._body(cluster, folder, watch.name, pod, processes or self.gpus or 1)
                    folder.fill()
                    watch.create(job)
                made = True
                watch.until_ended()
            except SystemExit:  # also between the making of a job and the answer that tells of it
                watch.ended = not preflight.is_evicted(cluster)
                raise
            finally:
                if watch.ended:
                    folder.hand_over()
                    watch.remove()
                    folder.empty()
                elif made:
                    say(
                        f"TrainJob {watch.name}: goes on in the cluster; the same call finds it again, and "
                        f"`kubectl delete trainjob {watch.name}` ends it"
                    )

    def _body(self, cluster: Cluster, folder: SharedFolder, name: str, pod: body.Pod, processes: int) -> dict[str, Any]:
        limits = {"cpu": self.cpus, "memory": self.memory}
        limits[self.gpu_resource] = str(self.gpus) if self.gpus else ""
        return body.train_job(
            name,
            folder.arguments_file,
            pod,
            runtime=preflight.runtime(cluster, self.runtime),
            nodes=self.nodes,
            processes=processes,
            limits={key: amount for key, amount in limits.items() if amount},
            environment=self.environment,
        )


class _Watch:
    """One job, from its making to its end.

    Attributes:
        ended: the job is over, and no later try could resume it.
    """

    def __init__(self, asked: TrainJob, cluster: Cluster, folder: SharedFolder, name: str):
        self.asked, self.cluster, self.folder, self.name = asked, cluster, folder, name
        self.path = cluster.of_namespace("trainjobs", name, TRAINER)
        self.logs = Logs(cluster, prefixed=asked.nodes > 1)
        self.ended = False
        self._since: dict[str, float] = {}
        self._told: set[str] = set()

    def found(self) -> bool:
        """Find the job of an earlier try; one that failed, or whose folder is gone, is removed first."""
        job = preflight.find_job(self.cluster, self.path)
        if job is None:
            return False
        if job["metadata"].get("labels", {}).get("app.kubernetes.io/managed-by") != "ragtune":
            raise TrainingError(
                f"TrainJob {self.name}: is there, and not ragtune's; `kubectl delete trainjob {self.name}`"
            )
        complete = "Complete" in _conditions(job) and "results" in self.folder.outcome()
        running = not {"Complete", "Failed"} & set(_conditions(job)) and self.folder.is_filled()
        if (complete or running) and "deletionTimestamp" not in job["metadata"]:
            say(f"TrainJob {self.name}: found again, as an earlier try of this step has made it")
            return True
        self._delete_and_wait()
        return False

    def create(self, job: Mapping[str, Any]) -> None:
        """Make the job; one that is there by now was made by an answer that was lost."""
        try:
            self.cluster.create(self.cluster.of_namespace("trainjobs", api=TRAINER), job)
        except RefusedError as error:
            if error.status != 409:
                self.folder.empty()
                raise
        trainer = job["spec"]["trainer"]
        say(
            f"TrainJob {self.name} in {self.cluster.namespace}: {trainer['numNodes']} nodes of "
            f"{trainer['numProcPerNode']} processes, image {trainer['image']}"
        )

    def until_ended(self) -> None:
        """Watch until the job has ended.

        Raises:
            TrainingError: it failed, or will not start.
        """
        while True:
            job = self.cluster.find(self.path)
            if job is None:
                self.ended = True
                raise TrainingError(f"TrainJob {self.name}: somebody has deleted it; start the run again to resume")
            pods = self._pods()
            self.logs.follow(pods)
            conditions = _conditions(job)
            if "Complete" in conditions or "Failed" in conditions:
                self.ended = True
                self.logs.finish()
                if "Failed" in conditions and "results" not in self.folder.outcome():
                    raise self._failure(conditions["Failed"], self._pods() or pods)
                return
            if "message" in self.folder.outcome():  # the run has told its error, and would only tell it again
                self.ended = True
                time.sleep(self.asked.every)
                self.logs.finish()
                raise TrainingError(f"TrainJob {self.name}: ended by its own error")
            if "Suspended" in conditions:
                self._tell(f"TrainJob {self.name}: is suspended, and waits until a queue such as Kueue's lets it start")
            else:
                self._check_starting(pods)
            time.sleep(self.asked.every)

    def remove(self) -> None:
        """Delete the job that has ended, unless it is to be kept; one that has not ended by itself always goes."""
        try:
            job = self.cluster.find(self.path)
            if job is not None and not (self.asked.keep and {"Complete", "Failed"} & set(_conditions(job))):
                self.cluster.delete(self.path)
        except ClusterError as error:  # what was trained is none the worse
            say(f"TrainJob {self.name}: has ended, and could not be deleted ({error})")

    def _pods(self) -> Sequence[Mapping[str, Any]]:
        return self.cluster.get(self.cluster.of_namespace("pods"), labelSelector=_PODS.format(self.name))["items"]

    def _check_starting(self, pods: Sequence[Mapping[str, Any]]) -> None:
        """Tell why nodes wait, and give up where that lasts too long."""
        current = {trouble.kind: trouble for pod in pods if (trouble := pod_states.waits(pod))}
        if not pods or (not current and any(map(pod_states.starts, pods))):
            where = "no pods were made" if not pods else "its pods do not start"
            text = f"{where}{preflight.events(self.cluster, self.name)}; `kubectl describe trainjob,job,pod` tells more"
            current["start"] = pod_states.Trouble(text, "start", _START_SECONDS if pods else _MADE_SECONDS)
        for kind in set(self._since) - set(current):
            del self._since[kind]
        for kind, trouble in current.items():
            since = self._since.setdefault(kind, time.monotonic())
            if kind != "start":
                self._tell(f"TrainJob {self.name}: {trouble.text}")
            if time.monotonic() - since >= trouble.seconds * self.asked.patience:
                self.ended = True
                raise TrainingError(f"TrainJob {self.name}: cannot start: {trouble.text}")

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            say(text)

    def _failure(self, condition: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> TrainingError:
        said = [last_reason(tail) for tail in self.logs.tails() if tail]
        waiting = [trouble.text for pod in pods if (trouble := pod_states.waits(pod))]
        reasons = [condition.get("message") or condition.get("reason", ""), *pod_states.ends(pods), *waiting, *said[:1]]
        told = "; ".join(dict.fromkeys(filter(None, reasons)))
        return TrainingError(f"TrainJob {self.name}: failed ({told}); the same call resumes from its last checkpoint")

    def _delete_and_wait(self) -> None:
        self.cluster.delete(self.path)
        until = time.monotonic() + _DELETED_WITHIN_SECONDS * self.asked.patience
        while self.cluster.find(self.path) is not None:
            if time.monotonic() > until:
                raise TrainingError(
                    f"TrainJob {self.name}: the one of an earlier try is still being deleted; look for its pods with "
                    f"`kubectl get pods -l jobset.sigs.k8s.io/jobset-name={self.name}`"
                )
            time.sleep(min(self.asked.every, 1.0))


def _conditions(job: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The job's conditions that are true, by type."""
    told = job.get("status", {}).get("conditions", [])
    return {condition["type"]: condition for condition in told if condition["status"] == "True"}
