"""The manifests of deploy/, held against Kubernetes' and Trainer's own schemas, and against what the pipeline names."""

import inspect
import os
import re
import shutil
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from kubeflow_trainer_api import models

import pipeline
from components import TRAIN_IMAGE
from ragtune.kubeflow.nodes import SECRET
from ragtune.kubeflow.pods import CREDENTIALS, WORKSPACE
from ragtune.training.launchers.trainjob.preflight import TRAINER_RELEASE

DEPLOY = Path(__file__).parents[1] / "deploy"
KUBERNETES = "1.34"
RUNTIME = "ClusterTrainingRuntime"
SERVICE = "InferenceService"
FOLDERS = {  # each that is applied, with the namespace and the service account of the runs' pods
    "kubeflow": ("kubeflow", "pipeline-runner"),
    "rwo": ("kubeflow", "pipeline-runner"),
    "kind": ("kubeflow", "pipeline-runner"),
    "profile": ("my-profile", "default-editor"),
    "openshift": ("my-project", "pipeline-runner-dspa"),
}
PARAMETERS = inspect.signature(pipeline.rag_finetuning.pipeline_func).parameters
MANIFESTS = [
    path
    for path in sorted(DEPLOY.rglob("*.yaml"))
    if path.name != "kustomization.yaml" and path.parent.name != "milvus"
]


def documents(text):
    return [document for document in yaml.safe_load_all(text) if document]


def manifest(name, kind):
    (found,) = [one for one in documents((DEPLOY / name).read_text(encoding="utf-8")) if one["kind"] == kind]
    return found


@cache
def built(folder):
    """The objects that `kubectl apply -k` would send; the tool works without a cluster."""
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed")
    made = subprocess.run(["kubectl", "kustomize", str(DEPLOY / folder)], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return documents(made.stdout)


def of_kind(folder, kind):
    return [document for document in built(folder) if document["kind"] == kind]


def check_service(document):
    """KServe's schema is in no package that can be installed beside ours: its names, as v1beta1 has them."""
    assert document["apiVersion"] == "serving.kserve.io/v1beta1"
    (predictor,) = document["spec"].values()
    (model,) = predictor.values()
    assert set(model) == {"modelFormat", "storageUri", "args", "resources"}
    pod = {"containers": [{"name": "kserve-container", "args": model["args"], "resources": model["resources"]}]}
    whole = {"apiVersion": "v1", "kind": "Pod", "metadata": document["metadata"], "spec": pod}
    kubernetes_validate.validate(whole, KUBERNETES, strict=True)


def test_the_served_model_is_the_registered_ones_generator_and_its_claim_the_workspace():
    model = manifest("serving/generator.yaml", SERVICE)["spec"]["predictor"]["model"]
    assert model["storageUri"].startswith(f"model-registry://{PARAMETERS['registry_model_name'].default}/")
    assert "--model_dir=/mnt/models/generator" in model["args"]
    pod = manifest("serving/ask.yaml", "Pod")["spec"]
    claim = PARAMETERS["cluster_workspace_volume"].default
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim
    assert pod["containers"][0]["volumeMounts"][0]["mountPath"] == WORKSPACE
    assert pod["containers"][0]["image"] == TRAIN_IMAGE


def check(document):
    if document["kind"] == SERVICE:
        check_service(document)
    elif document["kind"] == RUNTIME:
        model = models.TrainerV1alpha1ClusterTrainingRuntime.from_dict(document)
        assert model.to_dict() == document  # a field that Trainer does not know would be gone
    else:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_every_manifest_is_what_its_schema_allows(path):
    for document in documents(path.read_text(encoding="utf-8")):
        check(document)


def test_the_schemas_refuse_what_is_misspelt():
    runtime = manifest("trainer/runtime.yaml", RUNTIME)
    runtime["spec"]["mlPolicy"]["numNode"] = runtime["spec"]["mlPolicy"].pop("numNodes")
    claim = manifest("base/workspace.yaml", "PersistentVolumeClaim")
    claim["spec"]["accessMode"] = claim["spec"].pop("accessModes")
    for document in (runtime, claim):
        with pytest.raises((AssertionError, kubernetes_validate.ValidationError)):
            check(document)


@pytest.mark.parametrize("folder", [*FOLDERS, "trainer"])
def test_every_folder_builds_into_valid_objects(folder):
    for document in built(folder):
        check(document)


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_folder_keeps_to_one_namespace_and_its_service_account(folder):
    namespace, account = FOLDERS[folder]
    for document in built(folder):
        if document["kind"] != "PersistentVolume":
            assert document["metadata"]["namespace"] == namespace
    (binding,) = of_kind(folder, "RoleBinding")
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": namespace}]
    (role,) = of_kind(folder, "Role")
    assert binding["roleRef"]["name"] == role["metadata"]["name"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_claim_is_the_pipelines_default(folder):
    (claim,) = of_kind(folder, "PersistentVolumeClaim")
    assert claim["metadata"]["name"] == PARAMETERS["cluster_workspace_volume"].default
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce" if folder == "rwo" else "ReadWriteMany"]
    for volume in of_kind(folder, "PersistentVolume"):
        assert volume["spec"]["claimRef"] == {key: claim["metadata"][key] for key in ("namespace", "name")}
        assert claim["spec"]["volumeName"] == volume["metadata"]["name"]
        for key in ("storageClassName", "accessModes"):
            assert claim["spec"][key] == volume["spec"][key]


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_workspace_gets_its_owner_but_on_openshift(folder):
    jobs = of_kind(folder, "Job")
    assert bool(jobs) == (folder != "openshift")
    for job in jobs:
        pod = job["spec"]["template"]["spec"]
        (container,), (volume,) = pod["containers"], pod["volumes"]
        assert volume["persistentVolumeClaim"]["claimName"] == PARAMETERS["cluster_workspace_volume"].default
        assert container["volumeMounts"] == [{"mountPath": WORKSPACE, "name": volume["name"]}]
        assert container["command"][-1] == f"chown 1000:0 {WORKSPACE} && chmod 2770 {WORKSPACE}"
        assert container["securityContext"]["runAsUser"] == 0
        assert ("nodeSelector" in pod) == (folder == "rwo")  # a local volume is made on the node of its first pod
        assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]


def test_the_images_user_is_the_workspaces_owner():
    for name in ("data", "train"):
        assert "\nUSER 1000:0\n" in (DEPLOY.parent / "images" / name / "Dockerfile").read_text(encoding="utf-8")


def test_the_roles_allow_nothing_else_that_changes_a_cluster():
    rules = [rule for path in MANIFESTS for one in documents(path.read_text()) for rule in one.get("rules", [])]
    changing = {(name, verb) for rule in rules for name in rule["resources"] for verb in rule["verbs"]}
    assert {pair for pair in changing if pair[1] not in ("get", "list", "watch")} == {
        ("trainjobs", "create"),
        ("trainjobs", "delete"),
    }
    assert not {name for name, _ in changing} & {"secrets", "*"}


def test_the_binding_of_trainer_names_its_role():
    role, binding = (manifest("trainer/readers.yaml", kind) for kind in ("ClusterRole", "ClusterRoleBinding"))
    assert binding["roleRef"]["name"] == role["metadata"]["name"]


def test_the_runtime_has_what_trainer_and_its_client_look_for():
    runtime = manifest("trainer/runtime.yaml", RUNTIME)
    assert runtime["metadata"]["labels"] == {"trainer.kubeflow.org/framework": "torch"}
    (job,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    assert job["name"] == "node"
    assert job["template"]["metadata"]["labels"] == {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}
    pod = job["template"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert (container["name"], container["image"]) == ("node", TRAIN_IMAGE)
    assert pod["securityContext"]["runAsNonRoot"]
    assert not container["securityContext"]["allowPrivilegeEscalation"]


def test_the_secrets_template_has_every_key_and_no_secret():
    secret = manifest("secret.example.yaml", "Secret")
    assert secret["metadata"]["name"] == SECRET
    assert set(secret["stringData"]) == {*CREDENTIALS, "fsspec.json"}
    for key, value in secret["stringData"].items():
        assert re.fullmatch(r"<[^<>]*>", value) or (key == "fsspec.json" and "<" in value), key
    ignored = (DEPLOY.parent / ".gitignore").read_text().splitlines()
    assert "secret.yaml" in ignored


@pytest.mark.parametrize(("name", "clustered"), [("standalone", False), ("cluster", True)])
def test_milvus_is_installed_where_the_parameters_look_for_it(name, clustered):
    path = DEPLOY / "milvus" / f"{name}.yaml"
    text = path.read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    assert values["cluster"]["enabled"] is clustered
    assert yaml.safe_load(values["extraConfigFiles"]["user.yaml"])["common"]["security"]["authorizationEnabled"] is True
    release, namespace = re.search(r"helm install (\S+)", text)[1], re.search(r"--namespace (\S+)", text)[1]
    full = yaml.safe_load((DEPLOY.parent / "params" / "nq-full.yaml").read_text(encoding="utf-8"))
    assert full["milvus_uri"] == f"http://{release}.{namespace}.svc:19530"
    assert f"deploy/milvus/{name}.yaml" in text


@pytest.fixture
def kind(tmp_path):
    """kind.sh with tools that write down how they were called; returns the calls and what `kind` was given."""
    tools, log = tmp_path / "tools", tmp_path / "log"
    tools.mkdir()
    for name in ("docker", "kubectl", "kind", "make"):
        tool = tools / name
        keep = f'\n[ "$1" != create ] || cat > {tmp_path}/cluster.yaml' if name == "kind" else ""
        tool.write_text(f'#!/bin/sh\necho "{name} $*" >> {log}{keep}\n', encoding="utf-8")
        tool.chmod(0o755)

    def run(*arguments):
        environment = {
            "TAG": os.environ.get("TAG", ""),
            "PATH": f"{tools}:{os.environ['PATH']}",
            "WORKSPACE": f"{tmp_path}/tools/../a workspace",
        }
        done = subprocess.run([DEPLOY / "kind.sh", *arguments], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return log.read_text().splitlines(), yaml.safe_load((tmp_path / "cluster.yaml").read_text())

    return run


def test_kind_mounts_the_workspace_in_every_node_that_runs_pods(kind, tmp_path):
    _, cluster = kind("up")
    path = manifest("kind/volume.yaml", "PersistentVolume")["spec"]["hostPath"]["path"]
    workers = [node for node in cluster["nodes"] if node["role"] == "worker"]
    assert len(workers) == 2
    for worker in workers:
        assert worker["extraMounts"] == [{"hostPath": str(tmp_path / "a workspace"), "containerPath": path}]
    assert (tmp_path / "a workspace").is_dir()


def test_kind_installs_the_releases_that_the_code_was_written_for(kind):
    calls, _ = kind("up")
    applied = [call.split("--kustomize ")[1] for call in calls if "--kustomize" in call]
    assert [place for place in applied if place.startswith("deploy/")] == ["deploy/trainer", "deploy/kind"]
    releases = [place.partition("?ref=")[2] for place in applied if "?ref=" in place]
    assert "v" + version("kubeflow_trainer_api") == TRAINER_RELEASE  # the only place that names it
    assert releases == [version("kfp"), version("kfp"), TRAINER_RELEASE, TRAINER_RELEASE]
    page = (DEPLOY.parent / "docs" / "cluster.md").read_text(encoding="utf-8")
    assert f"overlays/manager?ref={TRAINER_RELEASE}" in page
    job = manifest("ownership/job.yaml", "Job")["metadata"]["name"]
    assert any(f"wait job/{job} " in call for call in calls)
    assert all(call.startswith("kubectl --context kind-ragtune ") for call in calls if call.startswith("kubectl"))
    (loaded,) = [call for call in calls if call.startswith("kind load")]
    assert TRAIN_IMAGE in loaded.split()


def test_kind_loads_images_of_another_tag(kind, monkeypatch):
    kind("up")
    monkeypatch.setenv("TAG", "mine-2")
    calls, _ = kind("images")
    assert calls[-2:] == [
        "make images TAG=mine-2",
        "kind load docker-image --name ragtune ragtune-data:mine-2 ragtune-train:mine-2",
    ]


def test_kind_is_clean_to_shellcheck():
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed")
    assert subprocess.run(["shellcheck", DEPLOY / "kind.sh"]).returncode == 0
