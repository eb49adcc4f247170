"""A step's pod on a cluster: an API server, the claim that is mounted, arguments of a run."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from kubernetes_server import KubernetesServer

from ragtune.training.launchers.trainjob import cluster
from ragtune.training.launchers.trainjob.launcher import TrainJob

IMAGE = "example.org/me/ragtune-train:1"


@pytest.fixture
def kubernetes(tmp_path, monkeypatch):
    """The server; this process is its pod `step`, with the claim `workspace` at tmp_path/workspace."""
    with KubernetesServer() as server:
        context = {"name": "it", "context": {"cluster": "it", "user": "it", "namespace": "team"}}
        config = {"apiVersion": "v1", "kind": "Config", "current-context": "it", "contexts": [context]}
        config |= {
            "clusters": [{"name": "it", "cluster": {"server": server.host}}],
            "users": [{"name": "it", "user": {}}],
        }
        (tmp_path / "kubeconfig").write_text(json.dumps(config))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        monkeypatch.setenv("KFP_POD_NAME", "step")
        monkeypatch.setattr(cluster, "_PAUSE", 0.01)
        mount = {"name": "claim", "mountPath": str(tmp_path / "workspace")}
        volume = {"name": "claim", "persistentVolumeClaim": {"claimName": "workspace"}}
        spec = {"containers": [{"name": "main", "image": IMAGE, "volumeMounts": [mount]}], "volumes": [volume]}
        server.pods["step"] = {"metadata": {"name": "step", "labels": {}}, "spec": spec, "status": {}}
        server.claims["workspace"] = {"spec": {"accessModes": ["ReadWriteMany"]}}
        yield server


@pytest.fixture
def step(tmp_path, kubernetes):
    """A step that was asked for outputs on its own disk; `run` as a try of it, `outcome` is what it was left."""
    own = tmp_path / "step"
    (own / "pairs").mkdir(parents=True)
    (own / "pairs" / "data.arrow").write_text("pairs")
    work = tmp_path / "workspace" / "training"
    work.mkdir(parents=True)

    def run(processes=0, **options):
        given = {"dataset_folder": str(own / "pairs"), "work_folder": str(work), "outcome_file": str(own / "outcome")}
        given |= {name: str(own / name) for name in ("output_folder", "closed_book_folder", "tensorboard_folder")}
        (own / "arguments.json").write_text(json.dumps(given | {"max_steps": 5}))
        TrainJob(**{"every": 0.01} | options).run(own / "arguments.json", processes)

    return SimpleNamespace(run=run, own=own, work=work, outcome=lambda: json.loads((own / "outcome").read_text()))


@pytest.fixture
def trains():
    """A controller: each node writes a line, the first one leaves model and results, and the job is complete."""

    def controller(server, job, results=True):
        given = json.loads(Path(job["spec"]["trainer"]["args"][-1]).read_text())
        assert (Path(given["dataset_folder"]) / "data.arrow").read_text() == "pairs"
        pods = [server.pod(job, node, {"running": {}}) for node in range(job["spec"]["trainer"]["numNodes"])]
        for pod in pods:
            server.write(pod, f"hello of {pod[-7]}")
        for name in ("output_folder", "tensorboard_folder"):
            Path(given[name]).mkdir()
            (Path(given[name]) / "file").write_text(name)
        if results:
            Path(given["outcome_file"]).write_text('{"results": {"steps": 5}}')
        for pod in pods:
            server.change(pod, {"terminated": {"exitCode": 0}}, "Succeeded")
        server.condition(job, "Complete")

    return controller
