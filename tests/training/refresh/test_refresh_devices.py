"""The choice of devices for a refresh, and its priority; what a GPU does with it is seen on one alone."""

import os
import subprocess
import time

import pytest
import torch

from ragtune.models.encoders import Encoder
from ragtune.training.refresh.devices import (
    RefreshDevices,
    choose_devices,
    devices_now,
    environment,
    give_way,
    idle_gpus,
    needed_bytes,
)

GB = 10**9


@pytest.mark.parametrize(
    ("wanted", "gpus", "training", "own", "free", "chosen"),
    [
        ("cuda:3", 4, 4, "cuda:0", 0, RefreshDevices(("cuda:3",))),
        ("cuda:2,cuda:3", 4, 2, "cuda:0", 0, RefreshDevices(("cuda:2", "cuda:3"))),
        ("", 4, 2, "cuda:0", 0, RefreshDevices(("cuda:2", "cuda:3"))),
        ("", 1, 1, "cuda:0", 10 * GB, RefreshDevices(("cuda:0",), 5 * GB)),
        ("", 1, 1, "cuda:0", 9 * GB, RefreshDevices(("cpu",))),
        ("", 4, 4, "cuda:0", 10 * GB, RefreshDevices(("cuda:0",), 5 * GB)),
        ("", 0, 1, "cpu", 0, RefreshDevices(("cpu",))),
    ],
    ids=["wished", "two wished", "all idle", "shared", "no room", "all train", "no gpu"],
)
def test_idle_gpus_come_before_the_trainings_own_and_that_before_the_cpu(wanted, gpus, training, own, free, chosen):
    assert choose_devices(wanted, gpus, training, own, free, needed=5 * GB) == chosen


def test_without_a_gpu_it_is_the_cpu_and_that_is_told(world):
    encoder = Encoder.from_pretrained(world.encoder, "passage")
    chosen, told = devices_now("", encoder, torch.device("cpu"))
    assert chosen.on_cpu
    assert told == "refresh: passages are embedded on cpu"
    assert idle_gpus(encoder, torch.device("cpu")) == ["cpu"]
    weights = sum(parameter.numel() for parameter in encoder.parameters()) * 4
    assert needed_bytes(encoder) > weights


@pytest.mark.parametrize("own", [0, 3, 19])
def test_a_process_gives_way_whatever_the_trainings_own_priority(own, monkeypatch):
    """A training nicer than usual may not take a smaller value: that would be refused, and end it."""
    with subprocess.Popen(["nice", "-n", str(own), "sleep", "60"]) as process:
        for _ in range(1000):  # until nice has done its own work, on a busy machine too
            if os.getpriority(os.PRIO_PROCESS, process.pid) == own:
                break
            time.sleep(0.01)
        getpriority = os.getpriority
        monkeypatch.setattr(os, "getpriority", lambda which, who: own if who == 0 else getpriority(which, who))
        give_way(process.pid)
        assert getpriority(os.PRIO_PROCESS, process.pid) == min(19, own + 5)
        process.kill()


def test_on_the_cpu_it_takes_a_part_of_the_cores_and_torchruns_names_stay_behind(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    on_cpu, on_gpu = environment(RefreshDevices(("cpu",))), environment(RefreshDevices(("cuda:1",)))
    assert on_cpu["OMP_NUM_THREADS"] == str(max(1, len(os.sched_getaffinity(0)) // 4))
    assert "OMP_NUM_THREADS" not in on_gpu
    assert (on_cpu["TOKENIZERS_PARALLELISM"], on_gpu["TOKENIZERS_PARALLELISM"]) == ("false", "true")
    assert "RANK" not in on_cpu
