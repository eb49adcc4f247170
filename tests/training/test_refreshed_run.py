"""rag-end2end as a user runs it: the knowledge base is made anew beside, switched to, and fits the model in the end."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from world import PASSAGES

from ragtune.files import content_hash
from ragtune.knowledge.knowledge_base import KnowledgeBase
from ragtune.models.checkpoint import load_model, read_description
from ragtune.models.encoders import Encoder
from ragtune.training.arguments import RagTrainingArguments, RunFiles
from ragtune.training.launch import finetune
from ragtune.training.run import run

KILLED_RUN = str(Path(__file__).with_name("killed_run.py"))
PARAMETERS = {"method": "rag-end2end", "n_docs": 3, "temperature": 0.05, "learning_rate": 3e-3, "logging_steps": 1}
PARAMETERS |= {
    "per_device_train_batch_size": 8,
    "max_steps": 14,
    "eval_steps": 4,
    "save_steps": 4,
    "question_encoder_learning_rate": 3e-4,
    "passage_encoder_learning_rate": 5e-4,
}
# Training waits at the steps 5, 9 and 13 for what was begun one step earlier: every such run is the same.
PARAMETERS |= {"refresh_every": 4, "max_staleness": 4}
STALENESS = [1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4, 1, 2]


@pytest.fixture(scope="module")
def start_folder(still_world, still_knowledge_base, tmp_path_factory):
    """A knowledge base that others use too."""
    return shutil.copytree(still_knowledge_base, tmp_path_factory.mktemp("start") / "kb")


@pytest.fixture(scope="module")
def trained(still_world, start_folder, tmp_path_factory):
    """A run in one process that nothing disturbed."""
    folder = tmp_path_factory.mktemp("end2end")
    before = content_hash(start_folder / "kb_v1"), (start_folder / "served.json").read_bytes()
    outputs = {"output_folder": str(folder / "model"), "work_folder": str(folder / "work")}
    files = RunFiles(still_world.pairs, str(start_folder), **outputs, **still_world.parts)
    figures = run(files, RagTrainingArguments(tensorboard_folder=str(folder / "tensorboard"), **PARAMETERS))
    return folder, figures, before


@pytest.fixture(scope="module")
def resumed(still_world, start_folder, tmp_path_factory):
    """A run that was killed while it wrote the checkpoint of step 12, and started again."""
    folder = tmp_path_factory.mktemp("resumed")
    files = {"dataset_folder": still_world.pairs, "knowledge_base_folder": str(start_folder), **still_world.parts}
    files |= {"output_folder": str(folder / "model"), "work_folder": str(folder / "work")}
    files |= {"trained_knowledge_base_folder": str(folder / "trained")}
    (folder / "arguments.json").write_text(json.dumps(files | PARAMETERS))
    command = [sys.executable, KILLED_RUN, str(folder / "arguments.json")]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    (refreshes,) = (folder / "work").glob("*/refresh")
    left = {path.name for path in refreshes.glob("step_*")}
    run(RunFiles(**files), RagTrainingArguments(**PARAMETERS))
    return folder, left


@pytest.fixture(scope="module", params=["replicated", "sharded"])
def of_two(request, still_world, start_folder, tmp_path_factory):
    """The same run in two processes, each with half of a step's questions, and with all weights or half of them."""
    folder = tmp_path_factory.mktemp("two")
    files = {"dataset_folder": still_world.pairs, "knowledge_base_folder": start_folder, **still_world.parts}
    files |= {"output_folder": folder / "model", "work_folder": folder / "work"}
    files |= {"trained_knowledge_base_folder": folder / "trained"}
    parameters = PARAMETERS | {"per_device_train_batch_size": 4, "retrieval": "gather"}
    parameters |= {"fully_shard": request.param == "sharded"}
    finetune(processes=2, **files, **parameters)
    return folder


@pytest.fixture(scope="module")
def of_ray(still_world, start_folder, tmp_path_factory):
    """The same run, with a Ray actor that searches."""
    folder = tmp_path_factory.mktemp("ray")
    files = {"dataset_folder": still_world.pairs, "knowledge_base_folder": str(start_folder), **still_world.parts}
    files |= {"output_folder": str(folder / "model"), "work_folder": str(folder / "work")}
    files |= {"trained_knowledge_base_folder": str(folder / "trained")}
    run(RunFiles(**files), RagTrainingArguments(retrieval="ray", **PARAMETERS))
    return folder


def log_of(folder):
    return json.loads((folder / "model" / "training_log.json").read_text())


def test_training_searches_a_base_that_is_as_old_as_it_may_be_and_no_older(trained):
    assert [point["staleness"] for point in log_of(trained[0]) if "staleness" in point] == STALENESS
    assert trained[1]["refreshes"] == 3
    assert trained[1]["refresh_seconds"] > 0


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_version_that_its_checkpoint_remembers(trained, resumed):
    assert {"step_4", "step_8"} <= resumed[1]  # what the checkpoint of step 8 searches, and has in the making
    assert_same_run(log_of(trained[0]), log_of(resumed[0]), rel=1e-5)


@pytest.mark.slow
def test_two_processes_switch_at_the_same_steps_and_have_the_curve_of_one(trained, of_two):
    assert_same_run(log_of(trained[0]), log_of(of_two), rel=1e-4)
    for part in ("question_encoder", "passage_encoder", "generator"):
        one, two = (load_file(folder / "model" / part / "model.safetensors") for folder in (trained[0], of_two))
        for name in one.keys() - {name for name in one if name.endswith("key.bias")}:  # a key's bias has no gradient
            assert one[name].allclose(two[name], rtol=1e-3, atol=1e-5), name


@pytest.mark.slow
def test_ray_actors_search_each_version_in_its_turn(trained, of_ray):
    assert_same_run(log_of(trained[0]), log_of(of_ray), rel=1e-5)


@pytest.mark.slow
def test_each_of_them_has_a_base_that_fits_its_model(resumed, of_two):
    for folder in (resumed[0], of_two):
        assert_holds(folder / "trained", load_model(folder / "model").passage_encoder)
        assert list((folder / "work").iterdir()) == []


def assert_same_run(expected, found, rel):
    assert [point["step"] for point in found] == [point["step"] for point in expected]
    for name in ("staleness", "loss", "grad_norm", "entropy", "train_recall@3", "validation_loss", "recall@5"):
        curve = [point[name] for point in expected if name in point]
        assert [point[name] for point in found if name in point] == pytest.approx(curve, rel=rel), name


def test_staleness_stands_in_tensorboard(trained):
    events = EventAccumulator(str(trained[0] / "tensorboard" / "rag"))
    events.Reload()
    assert [scalar.step for scalar in events.Scalars("train/staleness")] == list(range(1, 15))


def test_the_base_of_the_start_is_unharmed(still_world, start_folder, trained):
    assert (content_hash(start_folder / "kb_v1"), (start_folder / "served.json").read_bytes()) == trained[2]
    encoder = Encoder.from_pretrained(still_world.encoder, "passage")
    assert_holds(start_folder, encoder)


def test_the_models_own_base_holds_the_trained_passage_encoders_vectors(start_folder, trained):
    model = load_model(trained[0] / "model")
    description = read_description(trained[0] / "model")
    served = description["lineage"]["knowledge_base"]
    assert served["path"].startswith(f"{start_folder}-")
    assert served["encoder_fingerprint"] == model.passage_encoder.fingerprint
    assert description["config"]["marginalization"] == "sequence"
    assert description["lineage"]["parameters"]["method"] == "rag-end2end"
    assert_holds(served["path"], model.passage_encoder)


def test_the_passage_encoder_has_moved(still_world, trained):
    start = Encoder.from_pretrained(still_world.encoder, "passage").encode_passages(PASSAGES)
    after = load_model(trained[0] / "model").passage_encoder.encode_passages(PASSAGES)
    assert (start * after).sum(axis=1).mean() < 0.999


def test_nothing_else_is_left(start_folder, trained):
    assert list((trained[0] / "work").iterdir()) == []
    assert len(list(start_folder.parent.iterdir())) == 2  # of the start, and of this model


def assert_holds(folder, encoder):
    expected = encoder.encode_passages(PASSAGES)
    with KnowledgeBase.open(folder, encoder_fingerprint=encoder.fingerprint) as base:
        found = base.search(expected, 1)
    assert found.scores[:, 0] == pytest.approx(np.einsum("nd,nd->n", expected, expected), abs=1e-5)
    assert found.embeddings[:, 0] == pytest.approx(expected[found.rows[:, 0]], abs=1e-6)
