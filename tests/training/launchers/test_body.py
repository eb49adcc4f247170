from pathlib import Path

import pytest

from ragtune.errors import TrainingError
from ragtune.training.launchers.trainjob.body import Pod, pod_from

SECRET = {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "ragtune", "key": "HF_TOKEN"}}}
OWN = {
    "spec": {
        "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"pool": "gpu"},
        "containers": [
            {"name": "wait", "image": "argoexec"},
            {
                "name": "main",
                "image": "registry.example.org/me/ragtune-train:1",
                "env": [{"name": "KFP_POD_NAME", "value": "step"}, SECRET],
                "volumeMounts": [{"name": "w", "mountPath": "/workspace"}, {"name": "scratch", "mountPath": "/tmp"}],
            },
        ],
        "volumes": [{"name": "w", "persistentVolumeClaim": {"claimName": "mine"}}, {"name": "scratch", "emptyDir": {}}],
    }
}


def test_nodes_pull_the_image_as_the_step_did_and_get_its_credentials_but_no_other_variable():
    pod = pod_from(OWN, None)
    assert pod.placement == {"nodeSelector": {"pool": "gpu"}, "imagePullSecrets": [{"name": "registry"}]}
    assert (pod.image, pod.env) == ("registry.example.org/me/ragtune-train:1", [SECRET])
    assert [mount["mountPath"] for mount in pod.volume_mounts] == ["/workspace"]


def test_a_folder_is_on_the_claim_of_the_deepest_mount():
    volumes = [{"name": name, "persistentVolumeClaim": {"claimName": f"claim-{name}"}} for name in "ab"]
    mounts = [{"name": "a", "mountPath": "/workspace"}, {"name": "b", "mountPath": "/workspace/training"}]
    pod = Pod("image", volumes=volumes, volume_mounts=mounts)
    assert pod.claim_of(Path("/workspace/training/run")) == "claim-b"
    assert pod.claim_of(Path("/workspace/models")) == "claim-a"
    with pytest.raises(TrainingError, match=r"/data is on no volume claim of this pod.*/workspace"):
        pod.claim_of(Path("/data"))


def test_an_image_that_nobody_tells_is_asked_for(monkeypatch):
    monkeypatch.delenv("RAGTUNE_IMAGE", raising=False)
    with pytest.raises(TrainingError, match="set RAGTUNE_IMAGE to its name"):
        pod_from(None, None)
