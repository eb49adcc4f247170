import shutil
from pathlib import Path

import pytest
import torch

from ragtune.models.rag import RagModel
from ragtune.training.arguments import RagTrainingArguments
from ragtune.training.checkpointing.fingerprint import fingerprint, run_inputs, telling

BASE = {"content_hash": "a", "encoder_fingerprint": "b"}


@pytest.fixture(scope="module")
def model(world):
    return RagModel.from_parts(*world.parts.values())


def of(model, pairs, base=BASE, **parameters):
    return fingerprint(run_inputs(model, pairs, base, RagTrainingArguments(output_dir="run", **parameters)))


def test_the_same_run_elsewhere_has_the_same_fingerprint(world, model, tmp_path):
    shutil.copytree(world.pairs, tmp_path / "copy")
    here = of(model, world.pairs)
    assert of(model, tmp_path / "copy", tensorboard_folder="elsewhere", report_to="none") == here


@pytest.mark.parametrize(
    "parameters",
    [
        {"learning_rate": 1e-5},
        {"n_docs": 3},
        {"seed": 1},
        {"gradient_accumulation_steps": 2},
        {"retrieval": "exact"},
        {"max_steps": 7},
        {"eval_steps": 7},
        {"overlap_search": False},
        {"precision": "bf16"},
    ],
)
def test_every_parameter_counts_that_changes_the_result(world, model, parameters):
    assert of(model, world.pairs, **parameters) != of(model, world.pairs)


@pytest.mark.parametrize(
    "parameters",
    [
        {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4},
        {"activation_checkpointing": True},
        {"gradient_checkpointing": True},
        {"fully_shard": True},
        {"torch_compile": True},
        {"per_device_eval_batch_size": 2, "dataloader_num_workers": 1},
        {"logging_steps": 1, "save_steps": 200, "save_total_limit": 1},
        {"retrieval": "gather"},
        {"precision": "fp32"},
        {"resume_from": "another"},
    ],
)
def test_what_saves_memory_or_time_does_not_count(world, model, parameters):
    assert of(model, world.pairs, **parameters) == of(model, world.pairs)


def test_the_size_of_a_validation_batch_counts_where_its_questions_are_each_others_negatives(world, model):
    settings = {"method": "retriever", "per_device_train_batch_size": 8}
    one, other = (of(model, world.pairs, per_device_eval_batch_size=size, **settings) for size in (8, 16))
    assert one != other


def test_processes_do_not_count_where_a_step_has_as_many_questions(world, model, monkeypatch):
    one = of(model, world.pairs, per_device_train_batch_size=8)
    monkeypatch.setattr(RagTrainingArguments, "world_size", 2)
    assert of(model, world.pairs, per_device_train_batch_size=4) == one


def test_another_knowledge_base_counts(world, model):
    assert of(model, world.pairs, BASE | {"content_hash": "c"}) != of(model, world.pairs)


def test_other_pairs_count(world, model, tmp_path):
    shutil.copytree(world.pairs, tmp_path / "copy")
    arrow = next(Path(tmp_path / "copy").rglob("*.arrow"))
    arrow.write_bytes(arrow.read_bytes()[:-1] + b"!")
    assert of(model, tmp_path / "copy") != of(model, world.pairs)


def test_other_weights_count(world):
    other = RagModel.from_parts(*world.parts.values())
    before = of(other, world.pairs)
    with torch.no_grad():
        other.generator.backbone.shared.weight[0, 0] += 1
    assert of(other, world.pairs) != before


def test_the_telling_parameters_are_those_one_compares_runs_by():
    told = telling(RagTrainingArguments(output_dir="run", n_docs=7))
    assert told["n_docs"] == 7
    assert {"learning_rate", "temperature", "max_steps", "seed", "method"} <= told.keys()
    assert not {"output_dir", "report_to", "disable_tqdm", "hub_token"} & told.keys()
