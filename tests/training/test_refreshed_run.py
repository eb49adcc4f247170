"""rag-end2end as a user runs it: the knowledge base is made anew beside, switched to, and fits the model in the end."""

import json
import shutil

import numpy as np
import pytest
from conftest import PASSAGES
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ragtune.files import content_hash
from ragtune.knowledge.knowledge_base import KnowledgeBase
from ragtune.models.checkpoint import load_model, read_description
from ragtune.models.encoders import Encoder
from ragtune.training.arguments import RagTrainingArguments, RunFiles
from ragtune.training.run import run

PARAMETERS = {"method": "rag-end2end", "n_docs": 3, "temperature": 0.05, "learning_rate": 3e-3, "logging_steps": 1}
PARAMETERS |= {"per_device_train_batch_size": 8, "max_steps": 9, "eval_steps": 3, "refresh_every": 3}
PARAMETERS |= {"max_staleness": 4, "passage_encoder_learning_rate": 1e-3}


@pytest.fixture(scope="module")
def start_folder(world, knowledge_base_folder, tmp_path_factory):
    """A knowledge base that others use too."""
    return shutil.copytree(knowledge_base_folder, tmp_path_factory.mktemp("start") / "kb")


@pytest.fixture(scope="module")
def trained(world, start_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("end2end")
    before = content_hash(start_folder / "kb_v1"), (start_folder / "manifest.json").read_bytes()
    outputs = {"output_folder": str(folder / "model"), "work_folder": str(folder / "work")}
    files = RunFiles(world.pairs, str(start_folder), **outputs, **world.parts)
    figures = run(files, RagTrainingArguments(tensorboard_folder=str(folder / "tensorboard"), **PARAMETERS))
    return folder, figures, before


def test_training_never_searches_an_older_base_than_it_may(trained):
    log = json.loads((trained[0] / "model" / "training_log.json").read_text())
    staleness = {point["step"]: point["staleness"] for point in log if "staleness" in point}
    assert list(staleness) == list(range(1, 10))
    assert [staleness[step] for step in (1, 2, 3)] == [1, 2, 3]
    assert all(staleness[step] <= 4 for step in staleness)
    assert trained[1]["refreshes"] >= 1
    assert trained[1]["refresh_seconds"] > 0


def test_staleness_stands_in_tensorboard(trained):
    events = EventAccumulator(str(trained[0] / "tensorboard" / "rag"))
    events.Reload()
    assert [scalar.step for scalar in events.Scalars("train/staleness")] == list(range(1, 10))


def test_the_base_of_the_start_is_unharmed(world, start_folder, trained):
    assert (content_hash(start_folder / "kb_v1"), (start_folder / "manifest.json").read_bytes()) == trained[2]
    encoder = Encoder.from_pretrained(world.encoder, "passage")
    assert_holds(start_folder, encoder)


def test_the_models_own_base_holds_the_trained_passage_encoders_vectors(start_folder, trained):
    model = load_model(trained[0] / "model")
    description = read_description(trained[0] / "model")
    served = description["lineage"]["knowledge_base"]
    assert served["path"].startswith(f"{start_folder}-")
    assert served["encoder_fingerprint"] == model.passage_encoder.fingerprint
    assert description["config"]["method"] == "rag"
    assert description["lineage"]["parameters"]["method"] == "rag-end2end"
    assert_holds(served["path"], model.passage_encoder)


def test_the_passage_encoder_has_moved(world, trained):
    start = Encoder.from_pretrained(world.encoder, "passage").encode_passages(PASSAGES)
    after = load_model(trained[0] / "model").passage_encoder.encode_passages(PASSAGES)
    assert (start * after).sum(axis=1).mean() < 0.999


def test_nothing_else_is_left(start_folder, trained):
    assert list((trained[0] / "work").iterdir()) == []
    assert len(list(start_folder.parent.iterdir())) == 2


def assert_holds(folder, encoder):
    expected = encoder.encode_passages(PASSAGES)
    with KnowledgeBase.open(folder, encoder_fingerprint=encoder.fingerprint) as base:
        found = base.search(expected, 1)
    assert found.scores[:, 0] == pytest.approx(np.einsum("nd,nd->n", expected, expected), abs=1e-5)
    assert found.embeddings[:, 0] == pytest.approx(expected[found.rows[:, 0]], abs=1e-6)
