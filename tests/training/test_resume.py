"""A run that is killed while it writes a checkpoint goes on as if nothing had happened."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from ragtune.training.arguments import RagTrainingArguments, RunFiles
from ragtune.training.launch import finetune
from ragtune.training.run import run

KILLED_RUN = str(Path(__file__).with_name("killed_run.py"))
# 6 steps an epoch, a checkpoint every 4: the killed run goes on in the middle of the second epoch.
PARAMETERS = {
    "max_steps": 16,
    "eval_steps": 4,
    "save_steps": 4,
    "logging_steps": 1,
    "per_device_train_batch_size": 8,
    "n_docs": 3,
    "temperature": 0.05,
    "learning_rate": 3e-3,
    "question_encoder_learning_rate": 1e-4,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("resumed")


@pytest.fixture(scope="module")
def uninterrupted(world, knowledge_base_folder, folder):
    files = RunFiles(
        world.pairs, knowledge_base_folder, str(folder / "whole"), str(folder / "work_of_whole"), **world.parts
    )
    results = run(files, RagTrainingArguments(**PARAMETERS))
    return folder / "whole", results


@pytest.fixture(scope="module")
def killed(world, knowledge_base_folder, folder):
    """The work folder of a run that was killed with the twelfth step's checkpoint half written."""
    arguments = folder / "arguments.json"
    files = {"output_folder": str(folder / "resumed"), "work_folder": str(folder / "work"), **world.parts}
    files |= {"dataset_folder": world.pairs, "knowledge_base_folder": knowledge_base_folder}
    arguments.write_text(json.dumps(files | PARAMETERS))
    ended = subprocess.run([sys.executable, KILLED_RUN, str(arguments)], capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    return folder / "work"


@pytest.fixture(scope="module")
def resumed(world, knowledge_base_folder, folder, killed):
    results = finetune(
        world.pairs,
        knowledge_base_folder,
        folder / "resumed",
        killed,
        **world.parts,
        closed_book_folder=folder / "closed_book",
        tensorboard_folder=folder / "tensorboard",
        **PARAMETERS,
    )
    return folder / "resumed", results


def test_the_killed_run_leaves_whole_checkpoints_and_a_half_one(killed):
    names = {path.name for path in killed.glob("*/rag/*") if "checkpoint" in path.name}
    names |= {path.name for path in killed.glob("*/rag/.*")}
    assert {name for name in names if "best" not in name} == {"checkpoint-4", "checkpoint-8", ".partial-checkpoint-12"}


@pytest.mark.slow
def test_the_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(uninterrupted, resumed):
    for part in ("question_encoder", "generator"):
        whole, again = (load_file(run[0] / part / "model.safetensors") for run in (uninterrupted, resumed))
        for name, weight in whole.items():
            assert weight.allclose(again[name], rtol=1e-5, atol=1e-7), name


def test_the_resumed_run_has_the_curve_of_an_uninterrupted_one(uninterrupted, resumed):
    whole, again = (json.loads((run[0] / "training_log.json").read_text()) for run in (uninterrupted, resumed))
    assert [point["step"] for point in again] == list(range(17))
    for name in ("loss", "validation_loss", "em", "entropy", "distinct_passages"):
        expected = [point[name] for point in whole if name in point]
        assert [point[name] for point in again if name in point] == pytest.approx(expected, rel=1e-5)


def test_a_finished_run_leaves_no_checkpoints(resumed, killed):
    assert list(killed.iterdir()) == []


def test_the_results_count_the_steps_before_the_kill_too(uninterrupted, resumed):
    assert resumed[1]["steps"] == uninterrupted[1]["steps"] == 16
    assert resumed[1]["best_step"] == uninterrupted[1]["best_step"]
    assert resumed[1]["best_loss"] == pytest.approx(uninterrupted[1]["best_loss"], rel=1e-5)


def test_the_closed_book_baseline_has_its_own_best_step(resumed, folder):
    log = json.loads((folder / "closed_book" / "training_log.json").read_text())
    best = min((point for point in log if "em" in point), key=lambda p: (-p["em"], p["validation_loss"]))
    assert resumed[1]["closed_book_best_step"] == best["step"]
    assert not any("recall" in name for point in log for name in point)


def test_tensorboard_logs_stay(resumed, folder):
    for stage in ("rag", "closed_book"):
        assert list((folder / "tensorboard" / stage).glob("events.out.tfevents.*"))
