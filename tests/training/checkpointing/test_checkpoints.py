import json
import os
import shutil
from collections import namedtuple

import pytest
import torch
from torch import nn

from ragtune import files
from ragtune.errors import TrainingError
from ragtune.training.checkpointing import checkpoints
from ragtune.training.distributed.fsdp import full_state


class Tied(nn.Module):
    """Two layers that share their weights, as T5's and BART's embeddings do."""

    def __init__(self, size=4):
        super().__init__()
        self.first = nn.Linear(size, size)
        self.second = nn.Linear(size, size)
        self.second.weight = self.first.weight


def test_weights_come_back_and_stay_tied(tmp_path):
    saved, loaded = Tied(), Tied()
    checkpoints.save_weights(full_state(saved), tmp_path)
    checkpoints.load_weights(loaded, tmp_path)
    assert all(map(torch.equal, saved.parameters(), loaded.parameters()))
    assert loaded.second.weight is loaded.first.weight


def test_broken_weights_are_named(tmp_path):
    (tmp_path / checkpoints.WEIGHTS).write_bytes(b"half of a file")
    with pytest.raises(TrainingError, match=r"model\.safetensors: cannot be loaded"):
        checkpoints.load_weights(Tied(), tmp_path)


def test_weights_of_another_model_are_refused(tmp_path):
    checkpoints.save_weights(full_state(nn.Linear(4, 4)), tmp_path)
    with pytest.raises(TrainingError, match="is of another model"):
        checkpoints.load_weights(Tied(), tmp_path)


def test_frozen_weights_are_neither_written_nor_changed(tmp_path):
    saved, loaded = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    for module in (saved, loaded):
        module[0].weight.requires_grad_(False)
    frozen = loaded[0].weight.clone()
    state = full_state(saved, frozen=False)
    assert "0.weight" not in state and {"0.bias", "1.weight", "1.running_mean"} <= state.keys()
    checkpoints.save_weights(state, tmp_path)
    checkpoints.load_weights(loaded, tmp_path)
    assert loaded[0].weight.equal(frozen) and loaded[0].bias.equal(saved[0].bias)
    loaded.requires_grad_(True)
    with pytest.raises(TrainingError, match=r"or of a run that trained other parts of it \('0\.weight'\)"):
        checkpoints.load_weights(loaded, tmp_path)
    checkpoints.save_weights(full_state(saved), tmp_path)  # as earlier versions wrote them
    checkpoints.load_weights(loaded, tmp_path)
    assert loaded[0].weight.equal(saved[0].weight)


def test_the_last_checkpoint_is_the_one_with_the_most_steps(tmp_path):
    for step in (5, 20, 100):
        checkpoints.checkpoint_folder(tmp_path, step).mkdir()
    assert checkpoints.last_checkpoint(tmp_path).name == "checkpoint-100"


def test_a_half_written_checkpoint_does_not_count_and_is_removed(tmp_path):
    checkpoints.checkpoint_folder(tmp_path, 5).mkdir()
    partial = checkpoints.partial_of(checkpoints.checkpoint_folder(tmp_path, 10))
    partial.mkdir()
    (partial / "optimizer.pt").write_bytes(b"half")
    assert checkpoints.last_checkpoint(tmp_path).name == "checkpoint-5"
    assert not partial.exists()


def test_no_folder_has_no_checkpoint(tmp_path):
    assert checkpoints.last_checkpoint(tmp_path / "nowhere") is None


def test_too_little_space_is_known_before_training(tmp_path):
    with torch.device("meta"):
        huge = nn.Linear(10**6, 10**7)  # 40 TB
    with pytest.raises(TrainingError, match=r"3 checkpoints need 480000\.\d GB, but the disk has"):
        checkpoints.check_space(huge, tmp_path, kept=2)
    huge.weight.requires_grad_(False)  # as with an adapter: its weights are not written
    checkpoints.check_space(huge, tmp_path, kept=2)


def test_a_resumed_run_needs_no_room_for_what_is_there_already(tmp_path, monkeypatch):
    needed = sum(parameter.numel() * 4 for parameter in Tied().parameters()) * 4 * 2
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda folder: usage(needed - 10))
    with pytest.raises(TrainingError, match="2 checkpoints need"):
        checkpoints.check_space(Tied(), tmp_path, kept=1)
    whole = checkpoints.checkpoint_folder(tmp_path, 5)
    whole.mkdir()
    (whole / checkpoints.WEIGHTS).write_bytes(bytes(10))
    checkpoints.check_space(Tied(), tmp_path, kept=1)


def test_what_another_run_holds_too_makes_no_room(tmp_path, monkeypatch):
    needed = sum(parameter.numel() * 4 for parameter in Tied().parameters()) * 4 * 2
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda folder: usage(needed - 10))
    whole, source = checkpoints.checkpoint_folder(tmp_path / "run", 5), tmp_path / "source"
    whole.mkdir(parents=True)
    source.write_bytes(bytes(10))
    os.link(source, whole / checkpoints.WEIGHTS)
    with pytest.raises(TrainingError, match="2 checkpoints need"):
        checkpoints.check_space(Tied(), tmp_path / "run", kept=1)


@pytest.mark.parametrize("swaps", [True, False], ids=["swapped in one step", "renamed"])
def test_a_checkpoint_that_is_written_again_is_there_before_the_old_one_is_removed(tmp_path, monkeypatch, swaps):
    whole = checkpoints.checkpoint_folder(tmp_path, 5)
    for folder, content in ((whole, "old"), (checkpoints.partial_of(whole), "new")):
        folder.mkdir()
        (folder / "state").write_text(content)

    def killed(*_, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(shutil, "rmtree", killed)
        if not swaps:
            patched.setattr(files, "_swap", lambda one, other: False)
        checkpoints.publish(checkpoints.partial_of(whole), whole)
    assert (whole / "state").read_text() == "new"
    assert checkpoints.last_checkpoint(tmp_path) == whole
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-5"]  # the old one is swept up


def test_the_best_steps_that_a_checkpoint_goes_on_with_stay(tmp_path):
    for step, best in ((10, 0), (20, 15)):
        checkpoints.checkpoint_folder(tmp_path, step).mkdir()
        state = checkpoints.checkpoint_folder(tmp_path, step) / checkpoints.STATE
        state.write_text(json.dumps({"best_global_step": best}))
    for step in (0, 5, 15, 25, 30):
        checkpoints.best_folder(tmp_path, step).mkdir()
    checkpoints.drop_bests(tmp_path, 30)
    assert {path.name for path in tmp_path.glob("best-*")} == {"best-0", "best-15", "best-30"}
    checkpoints.drop_bests(tmp_path, None)
    assert {path.name for path in tmp_path.glob("best-*")} == {"best-0", "best-15"}
