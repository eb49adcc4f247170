"""One process with batches of 8 and two with two batches of 2 a step, killed in between, train the same model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from ragtune.training.arguments import RagTrainingArguments, RunFiles
from ragtune.training.launch import finetune
from ragtune.training.run import run

KILLED_RUN = str(Path(__file__).with_name("killed_run.py"))
PARAMETERS = {"max_steps": 16, "eval_steps": 4, "save_steps": 4, "logging_steps": 1, "n_docs": 3, "temperature": 0.05}
PARAMETERS |= {"learning_rate": 3e-3, "report_to": "none"}
OF_TWO = {"retrieval": "gather", "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}


KINDS = ("replicated", "sharded")


@pytest.fixture(scope="module")
def files(still_world, still_knowledge_base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    start = {"dataset_folder": still_world.pairs, "knowledge_base_folder": still_knowledge_base, **still_world.parts}
    return start | {"work_folder": str(folder / "work")}


@pytest.fixture(scope="module")
def of_one(files, tmp_path_factory):
    """The model of one process that nothing disturbed."""
    model = tmp_path_factory.mktemp("one") / "model"
    run(RunFiles(output_folder=str(model), **files), RagTrainingArguments(per_device_train_batch_size=8, **PARAMETERS))
    return model


@pytest.fixture(scope="module", params=KINDS)
def of_two(request, files, tmp_path_factory):
    """The model of two processes that were killed and started again."""
    folder = tmp_path_factory.mktemp(request.param)
    parameters = PARAMETERS | OF_TWO | {"fully_shard": request.param == "sharded"}
    outputs = {"output_folder": str(folder / "model"), "outcome_file": str(folder / "outcome.json")}
    (folder / "two.json").write_text(json.dumps(files | outputs | parameters))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    killed = subprocess.run([*torchrun, KILLED_RUN, str(folder / "two.json")], capture_output=True, text=True)
    assert "Signal 9 (SIGKILL)" in killed.stderr
    assert not (folder / "outcome.json").exists()  # the surviving process must not blame the disk or the network
    finetune(output_folder=folder / "model", processes=2, **files, **parameters)
    return folder / "model"


@pytest.mark.slow
def test_two_processes_have_the_curve_of_one(of_one, of_two):
    one, two = (json.loads((model / "training_log.json").read_text()) for model in (of_one, of_two))
    assert [point["step"] for point in two] == list(range(17))
    for name in (
        "loss",
        "grad_norm",
        "entropy",
        "distinct_passages",
        "train_recall@3",
        "validation_loss",
        "recall@5",
        "em",
    ):
        expected = [point[name] for point in one if name in point]
        assert [point[name] for point in two if name in point] == pytest.approx(expected, rel=5e-4), name


@pytest.mark.slow
def test_two_processes_end_with_the_weights_of_one(of_one, of_two):
    for part in ("question_encoder", "generator"):
        one, two = (load_file(model / part / "model.safetensors") for model in (of_one, of_two))
        assert one.keys() == two.keys()
        for name in one.keys() - {name for name in one if name.endswith("key.bias")}:  # a key's bias has no gradient
            # Adam turns the rounding of a gradient near 0 into whole steps of single weights, so by tensor.
            assert (one[name] - two[name]).norm() <= 0.01 * one[name].norm(), name
