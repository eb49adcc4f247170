"""Two nodes that meet over a network: a whole training as a TrainJob, each node in a network namespace of its own."""

import json
import os
import subprocess

import pytest
from kubernetes_server import run_nodes

from ragtune.training.launch import finetune
from ragtune.training.launchers.trainjob.launcher import TrainJob

ADDRESSES = ("10.213.0.1", "10.213.0.2")


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@pytest.fixture
def networks():
    """Names of two namespaces with one cable between them, eth0 in each; they share nothing else of a network."""
    names = [f"ragtune-{os.getpid()}-{node}" for node in range(2)]
    try:
        for name in names:
            ip("netns", "add", name)
        ip("-n", names[0], "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", names[1])
        for name, address in zip(names, ADDRESSES, strict=True):
            ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                ip("-n", name, "link", "set", device, "up")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(
            f"no network namespaces here, which take root and iproute2: {getattr(error, 'stderr', '') or error}"
        )
    else:
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


@pytest.mark.slow
def test_two_nodes_train_one_model(kubernetes, networks, still_world, still_knowledge_base, tmp_path, capfd):
    kubernetes.controller = run_nodes(lambda node: ["ip", "netns", "exec", networks[node]], ADDRESSES[0])
    job = TrainJob(nodes=2, gpus=0, cpus="1", every=0.2, environment={"GLOO_SOCKET_IFNAME": "eth0"})
    results = finetune(
        still_world.pairs,
        still_knowledge_base,
        tmp_path / "model",
        tmp_path / "workspace" / "training",
        **still_world.parts,
        launcher=job,
        retrieval="exact",
        max_steps=2,
        batch_size=2,
        eval_strategy="no",
        n_docs=2,
    )
    log = capfd.readouterr().err
    assert results["steps"] == 2, log
    lineage = json.loads((tmp_path / "model" / "ragtune.json").read_text())
    assert lineage["lineage"]["parameters"]["processes"] == 2
    assert "node 0: " in log
    assert list((tmp_path / "workspace" / "training").iterdir()) == [] and kubernetes.jobs == {}
