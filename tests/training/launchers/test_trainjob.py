"""A training as a TrainJob, over HTTP against a server that refuses what a cluster refuses."""

import json
import threading
import time
from pathlib import Path

import pytest
from kfp import dsl

from ragtune.errors import ClusterError, StorageError, TrainingError
from ragtune.training.launchers.trainjob import launcher
from ragtune.training.launchers.trainjob.cluster import Cluster


def posted(server):
    return [request for request in server.requests if request.startswith("POST")]


def looks(server, number):
    """Wait until the step has looked at the job's pods so often."""
    before = len(server.requests)
    while sum("/pods?" in request for request in server.requests[before:]) < number:
        time.sleep(0.01)


def test_outputs_and_outcome_of_the_job_come_back_and_nothing_is_left(kubernetes, step, trains):
    kubernetes.controller = trains
    step.run(processes=2, nodes=2)
    assert step.outcome() == {"results": {"steps": 5}}
    assert (step.own / "output_folder" / "file").read_text() == "output_folder"
    assert (step.own / "tensorboard_folder" / "file").exists() and not (step.own / "closed_book_folder").exists()
    assert list(step.work.iterdir()) == [] and kubernetes.jobs == {}


def test_the_job_has_nodes_gpus_image_claim_and_environment(kubernetes, step, trains):
    kubernetes.controller = trains
    nccl = {"NCCL_SOCKET_IFNAME": "eth0"}
    options = {"gpus": 4, "gpu_resource": "amd.com/gpu", "memory": "64Gi", "cpus": "16", "environment": nccl}
    step.run(nodes=3, **options)
    (job,) = kubernetes.bodies
    trainer = job["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (3, 4)
    assert trainer["image"] == "example.org/me/ragtune-train:1"
    assert trainer["resourcesPerNode"]["limits"] == {"amd.com/gpu": "4", "memory": "64Gi", "cpu": "16"}
    assert trainer["resourcesPerNode"]["requests"] == {"amd.com/gpu": "4", "memory": "64Gi", "cpu": "1"}
    environment = {each["name"]: each["value"] for each in trainer["env"]}
    assert environment["NCCL_SOCKET_IFNAME"] == "eth0" and environment["OMP_NUM_THREADS"] == "4"
    assert job["spec"]["runtimeRef"]["kind"] == "ClusterTrainingRuntime"
    (patch,) = job["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = patch["template"]["spec"]["template"]
    assert pod["metadata"]["labels"] == {"sidecar.istio.io/inject": "false"}
    assert pod["spec"]["volumes"][0]["persistentVolumeClaim"] == {"claimName": "workspace"}
    mounts = {mount["mountPath"] for mount in pod["spec"]["containers"][0]["volumeMounts"]}
    assert mounts == {str(step.work.parent), "/dev/shm"}


def test_what_kfp_hands_on_goes_to_the_nodes(kubernetes, step, trains):
    kubernetes.controller = trains
    secret = {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "ragtune", "key": "HF_TOKEN"}}}
    config = dsl.TaskConfig(
        tolerations=[{"key": "gpu", "operator": "Exists"}],
        node_selector={"pool": "gpu"},
        env=[secret],
        volumes=[{"name": "w", "persistentVolumeClaim": {"claimName": "workspace"}}],
        volume_mounts=[{"name": "w", "mountPath": str(step.work.parent)}, {"name": "w", "mountPath": "/dev/shm"}],
    )
    step.run(task_config=config)
    (job,) = kubernetes.bodies
    assert secret in job["spec"]["trainer"]["env"]
    (patch,) = job["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = patch["template"]["spec"]["template"]["spec"]
    assert (pod["nodeSelector"], pod["tolerations"]) == (config.node_selector, config.tolerations)
    assert (pod["volumes"], pod["containers"][0]["volumeMounts"]) == (config.volumes, config.volume_mounts)


def test_logs_of_all_nodes_are_on_stderr_each_line_once(kubernetes, step, trains, capfd):
    def controller(server, job):
        pods = [server.pod(job, node, {"waiting": {"reason": "ContainerCreating"}}, "Pending") for node in range(2)]
        time.sleep(0.05)
        for pod in pods:
            server.change(pod, {"running": {}}, "Running")
            for line in ("first", "second", "BREAK", "third"):
                server.write(pod, line)
        time.sleep(0.1)
        for pod in pods:
            server.write(pod, "last")
            server.change(pod, {"terminated": {"exitCode": 0}}, "Succeeded")
        Path(json.loads(Path(job["spec"]["trainer"]["args"][-1]).read_text())["outcome_file"]).write_text(
            '{"results": {}}'
        )
        server.condition(job, "Complete")

    kubernetes.controller = controller
    step.run(nodes=2)
    lines = capfd.readouterr().err.splitlines()
    for node in (0, 1):
        own = [line for line in lines if line.startswith(f"node {node}: ")]
        assert own == [f"node {node}: {text}" for text in ("first", "second", "third", "last")]


def test_a_job_is_kept_where_that_is_asked_for_and_made_again_by_the_next_run(kubernetes, step, trains):
    kubernetes.controller = trains
    step.run(keep=True)
    (name,) = kubernetes.jobs
    step.run()
    assert len(posted(kubernetes)) == 2 and [body["metadata"]["name"] for body in kubernetes.bodies] == [name] * 2
    assert kubernetes.jobs == {}


def test_a_restarted_step_finds_its_running_job(kubernetes, step, trains, monkeypatch):
    go_on = threading.Event()
    kubernetes.controller = lambda server, job: (go_on.wait(10), trains(server, job))

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("ragtune.training.launchers.trainjob.logs.Logs.follow", killed)
        with pytest.raises(KeyboardInterrupt):
            step.run()
    assert len(kubernetes.jobs) == 1 and not (step.own / "outcome").exists()
    threading.Timer(0.2, go_on.set).start()  # it still runs when the second try looks for it
    step.run()
    assert len(posted(kubernetes)) == 1
    assert step.outcome() == {"results": {"steps": 5}} and list(step.work.iterdir()) == []


def test_a_job_that_is_being_deleted_is_made_again(kubernetes, step, trains):
    def controller(server, job):
        server.pod(job, 0, {"running": {}})
        job["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        kubernetes.controller = trains
        raise_in_main.set()

    raise_in_main = threading.Event()
    kubernetes.controller = controller
    with pytest.raises(RuntimeError), pytest.MonkeyPatch.context() as patched:
        patched.setattr("ragtune.training.launchers.trainjob.logs.Logs.follow", _raise_after(raise_in_main))
        step.run()
    step.run()
    assert len(kubernetes.bodies) == 2 and step.outcome() == {"results": {"steps": 5}}


def _raise_after(event):
    def follow(*_):
        event.wait(10)
        raise RuntimeError("killed")

    return follow


def test_the_same_run_on_another_volume_is_another_job(kubernetes, step, trains):
    kubernetes.controller = trains
    step.run()
    kubernetes.pods["step"]["spec"]["volumes"][0]["persistentVolumeClaim"] = {"claimName": "other"}
    kubernetes.claims["other"] = kubernetes.claims["workspace"]
    step.run()
    assert len({body["metadata"]["name"] for body in kubernetes.bodies}) == 2


def test_a_job_that_failed_before_is_made_again(kubernetes, step, trains):
    kubernetes.controller = lambda server, job: server.condition(job, "Failed", "exceeded its backoff limit")
    with pytest.raises(TrainingError, match="exceeded its backoff limit"):
        step.run(keep=True)
    kubernetes.controller = trains
    step.run()
    assert step.outcome() == {"results": {"steps": 5}}


def test_somebody_elses_job_of_the_name_is_left_alone(kubernetes, step, trains):
    kubernetes.controller = lambda server, job: server.condition(job, "Failed")
    with pytest.raises(TrainingError):
        step.run(keep=True)
    (job,) = kubernetes.jobs.values()
    job["metadata"]["labels"] = {}
    with pytest.raises(TrainingError, match=r"TrainJob ragtune-\w{8}: is there, and not ragtune's; `kubectl delete"):
        step.run()
    assert len(kubernetes.jobs) == 1


def test_an_answer_that_was_lost_does_not_make_a_second_job(kubernetes, step, trains):
    kubernetes.controller = trains
    made = kubernetes._trainjobs

    def lost(method, name, body):
        answer = made(method, name, body)
        if method == "POST" and len(kubernetes.bodies) == 1:
            kubernetes.faults["POST"] = [(500, "{}")]
        return answer

    kubernetes._trainjobs = lost
    kubernetes.faults["POST"] = [(503, '{"message": "etcdserver: leader changed"}')]
    step.run()
    assert len(kubernetes.bodies) == 1 and step.outcome() == {"results": {"steps": 5}}


def test_a_server_that_is_gone_for_a_while_is_asked_again(kubernetes, step, trains):
    def controller(server, job):
        with server.lock:
            server.faults["GET /apis/trainer"] = [(0, ""), (503, "{}"), (429, "{}")]
        time.sleep(0.05)
        trains(server, job)

    kubernetes.controller = controller
    step.run()
    assert step.outcome() == {"results": {"steps": 5}}


def test_two_steps_of_the_same_run_do_not_share_a_job(kubernetes, step, trains, monkeypatch):
    monkeypatch.setattr("ragtune.training.launchers.trainjob.shared_folder._OTHER_HOLDER_SECONDS", 0.0)
    kubernetes.controller = trains

    def second(*_):
        patched.undo()
        step.run()

    with monkeypatch.context() as patched:
        patched.setattr("ragtune.training.launchers.trainjob.logs.Logs.follow", second)
        with pytest.raises(StorageError, match="held by another process"):
            step.run()
    assert len(posted(kubernetes)) == 1


# refusals before there is a job


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda server: server.denied.add("create trainjobs"), r'cannot create resource "trainjobs"; the step\'s serv'),
        (lambda server: server.denied.add("get trainjobs"), r"403, .*needs deploy/base/trainjobs.yaml in this na"),
        (lambda server: server.denied.add("get pods"), "cannot get resource"),
        (lambda server: server.runtimes.clear(), "training_runtime=torch-distributed: is not installed; .*kubectl ap"),
        (lambda server: setattr(server, "has_trainer", False), "Kubeflow Trainer is not installed .*kubectl apply"),
        (
            lambda server: server.claims.update(workspace={"spec": {"accessModes": ["ReadWriteOnce"]}}),
            "workspace_volume=workspace: its access modes are ReadWriteOnce, .*set nodes=1, .*kubectl apply",
        ),
        (
            lambda server: server.runtimes.update({"torch-distributed": {"spec": {"mlPolicy": {"mpi": {}}}}}),
            "torch-distributed: does not run torch",
        ),
        (lambda server: server.pods["step"]["spec"]["volumes"].clear(), "training/.trainjob.* is on no volume claim"),
    ],
    ids=["create", "get", "pods", "runtime", "trainer", "claim", "torch", "volume"],
)
def test_refusals_name_the_thing_and_the_way_out(kubernetes, step, spoil, message):
    spoil(kubernetes)
    with pytest.raises((ClusterError, TrainingError), match=message):
        step.run(nodes=2)
    assert list(step.work.iterdir()) == [] and kubernetes.jobs == {}


def test_one_node_takes_a_claim_of_one_node_but_not_one_of_one_pod(kubernetes, step, trains):
    kubernetes.controller = trains
    kubernetes.claims["workspace"] = {"spec": {"accessModes": ["ReadWriteOnce"]}}
    step.run()
    kubernetes.claims["workspace"] = {"spec": {"accessModes": ["ReadWriteOncePod"]}}
    with pytest.raises(
        ClusterError, match=r"ReadWriteOncePod, but the step and 1 nodes mount it at once; make a claim"
    ):
        step.run()


def test_a_runtime_that_may_not_be_read_is_left_to_the_server(kubernetes, step, trains):
    kubernetes.controller = trains
    kubernetes.denied = {"get clustertrainingruntimes", "get trainingruntimes", "get persistentvolumeclaims"}
    step.run()
    kubernetes.runtimes.clear()
    with pytest.raises(ClusterError, match=r"denied the request: spec.runtimeRef.*must be created before"):
        step.run()


def test_the_namespaces_own_runtime_goes_before_the_clusters(kubernetes, step, trains):
    kubernetes.controller = trains
    kubernetes.own_runtimes["torch-distributed"] = kubernetes.runtimes["torch-distributed"]
    step.run()
    assert kubernetes.bodies[0]["spec"]["runtimeRef"]["kind"] == "TrainingRuntime"


def test_outside_of_a_cluster_is_told(step, monkeypatch, tmp_path):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nowhere"))
    with pytest.raises(ClusterError, match="launcher=trainjob: no Kubernetes cluster to ask"):
        step.run()


# jobs that fail, or do not start


@pytest.mark.parametrize(
    ("state", "status", "message"),
    [
        (
            {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}},
            {},
            "node 1: image example.org/me/ragtune-train:1 cannot be pulled .*push it where the nodes can pull it",
        ),
        (
            {},
            {
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
                    }
                ]
            },
            "node 1: Unschedulable: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu.; lower gpus, train_memory",
        ),
        (
            {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "x" not found'}},
            {},
            'CreateContainerConfigError: secret "x" not found; make it with `kubectl create secret generic x',
        ),
        (
            {"waiting": {"reason": "CreateContainerError", "message": "no command"}},
            {},
            "CreateContainerError: no command; `kubectl describe pod ragtune-",
        ),
        ({"waiting": {"reason": "ContainerCreating"}}, {}, r"do not start \(FailedMount: Multi-Attach\)"),
    ],
    ids=["image", "gpus", "secret", "config", "mount"],
)
def test_a_node_that_cannot_start_ends_the_step_and_the_job(kubernetes, step, state, status, message):
    def controller(server, job):
        server.pod(job, 0, {"running": {}})
        name = server.pod(job, 1, state, "Pending", **status)
        warning = {"involvedObject": {"name": name}, "reason": "FailedMount", "message": "Multi-Attach"}
        server.events["e"] = warning | {"lastTimestamp": "2026-01-01T00:00:00Z"}

    kubernetes.controller = controller
    with pytest.raises(TrainingError, match=message):
        step.run(nodes=2, patience=5e-4)  # of what is minutes and half an hour
    assert kubernetes.jobs == {} and list(step.work.iterdir()) == []


def test_what_may_heal_by_itself_is_told_and_waited_for(kubernetes, step, trains, capfd):
    def controller(server, job):
        pod = server.pod(job, 0, {"waiting": {"reason": "ErrImagePull", "message": "registry busy"}}, "Pending")
        looks(server, 3)
        del server.pods[pod]
        trains(server, job)

    kubernetes.controller = controller
    step.run()
    assert capfd.readouterr().err.count("registry busy") == 1


def test_a_trouble_that_comes_back_is_given_its_time_again(kubernetes, step, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(launcher.time, "monotonic", lambda: clock[0])
    watch = launcher._Watch(launcher.TrainJob(), Cluster(), None, "job")
    job = {"metadata": {"name": "job"}, "spec": {"trainer": {"image": "i"}}}
    bad = kubernetes.pods[kubernetes.pod(job, 0, {"waiting": {"reason": "ErrImagePull"}}, "Pending")]
    good = kubernetes.pods[kubernetes.pod(job, 0, {"running": {}})]
    for clock[0], pod in ((0.0, bad), (60.0, good), (130.0, bad), (240.0, bad)):
        watch._check_starting([pod])
    clock[0] = 260.0
    with pytest.raises(TrainingError, match="cannot start"):
        watch._check_starting([bad])


def test_a_job_in_a_queue_is_waited_for(kubernetes, step, trains, capfd):
    def controller(server, job):
        server.condition(job, "Suspended")
        looks(server, 3)
        job["status"]["conditions"].clear()
        server.condition(job, "Suspended", status="False")
        trains(server, job)

    kubernetes.controller = controller
    step.run()
    assert "waits until a queue" in capfd.readouterr().err


def test_a_failed_job_ends_the_step_at_once_with_its_nodes_reason(kubernetes, step):
    def controller(server, job):
        pod = server.pod(job, 0, {"running": {}})
        server.write(pod, "RuntimeError: NCCL error in ncclCommInitRank")
        time.sleep(0.05)
        server.change(pod, {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}, "Failed")
        server.condition(job, "Failed", "jobset failed due to one or more job failures")

    kubernetes.controller = controller
    expected = "jobset failed .*node 0: OOMKilled, train_memory was too little; raise it.*RuntimeError: NCCL error"
    with pytest.raises(TrainingError, match=expected):
        step.run()
    assert kubernetes.jobs == {} and list(step.work.iterdir()) == []


def test_the_runs_own_error_ends_the_job_without_further_tries(kubernetes, step):
    def controller(server, job):
        given = json.loads(Path(job["spec"]["trainer"]["args"][-1]).read_text())
        Path(given["outcome_file"]).write_text('{"error": "KnowledgeBaseError", "message": "no knowledge base there"}')

    kubernetes.controller = controller
    with pytest.raises(TrainingError):
        step.run()
    assert step.outcome()["message"] == "no knowledge base there" and kubernetes.jobs == {}


def test_a_job_that_somebody_deletes_ends_the_step(kubernetes, step):
    kubernetes.controller = lambda server, job: server.jobs.clear()
    with pytest.raises(TrainingError, match="somebody has deleted it"):
        step.run()


def test_logs_that_may_not_be_read_do_not_end_the_job(kubernetes, step, trains, capfd):
    kubernetes.controller = trains
    kubernetes.denied.add("get pods/log")
    step.run()
    assert "its log cannot be read" in capfd.readouterr().err
    assert step.outcome() == {"results": {"steps": 5}}
