"""One process with batches of 8 and two with batches of 4 train the same model."""

import json
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file

from ragtune.errors import TrainingError
from ragtune.models.rag import RagModel
from ragtune.training.arguments import RagTrainingArguments, RunFiles
from ragtune.training.knowledge import check_knowledge
from ragtune.training.launch import finetune
from ragtune.training.run import run

PARAMETERS = {"max_steps": 8, "eval_steps": 4, "logging_steps": 1, "n_docs": 3, "temperature": 0.05}
PARAMETERS |= {"learning_rate": 3e-3, "report_to": "none"}


@pytest.fixture(scope="module")
def models(still_world, still_knowledge_base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    files = [still_world.pairs, still_knowledge_base]
    one = RunFiles(*files, str(folder / "one"), str(folder / "work"), **still_world.parts)
    run(one, RagTrainingArguments(per_device_train_batch_size=8, **PARAMETERS))
    two = {"processes": 2, "retrieval": "gather", "batch_size": 4}
    finetune(*files, folder / "two", folder / "work", **still_world.parts, **two, **PARAMETERS)
    return folder / "one", folder / "two"


@pytest.mark.slow
def test_two_processes_have_the_curve_of_one(models):
    one, two = (json.loads((model / "training_log.json").read_text()) for model in models)
    assert [point["step"] for point in two] == list(range(9))
    for name in ("loss", "grad_norm", "entropy", "distinct_passages", "train_recall@3", "validation_loss", "recall@5"):
        expected = [point[name] for point in one if name in point]
        assert [point[name] for point in two if name in point] == pytest.approx(expected, rel=1e-4), name


def test_two_processes_end_with_the_weights_of_one(models):
    for part in ("question_encoder", "generator"):
        one, two = (load_file(model / part / "model.safetensors") for model in models)
        for name in one.keys() - {name for name in one if name.endswith("key.bias")}:  # a key's bias has no gradient
            assert one[name].allclose(two[name], rtol=1e-3, atol=1e-5), name


def test_two_processes_may_not_open_one_embedded_base(still_world, still_knowledge_base):
    files = RunFiles(still_world.pairs, still_knowledge_base, "out", "work", **still_world.parts)
    model = RagModel.from_parts(*still_world.parts.values())
    args = SimpleNamespace(world_size=2, retrieval="direct", n_docs=3)
    with pytest.raises(TrainingError, match="retrieval=gather"):
        check_knowledge(files, args, model)
