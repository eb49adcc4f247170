import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ragtune.errors import ModelError, TrainingError
from ragtune.federation.weights import check_same, read_weights, shapes, travelling, write_weights
from ragtune.models.checkpoint import load_model, save_model
from ragtune.models.generators.adapter import Lora

TRAINED = frozenset({"question_encoder", "generator"})


@pytest.fixture
def model(base_model, tmp_path):
    return shutil.copytree(base_model, tmp_path / "model")


def beginnings(names):
    return {name.partition("/")[0] for name in names}


def test_what_travels_is_chosen_among_what_is_trained(model):
    assert beginnings(travelling(model, "both", TRAINED)) == TRAINED
    assert beginnings(travelling(model, "retriever", TRAINED)) == {"question_encoder"}
    assert beginnings(travelling(model, "generator", TRAINED)) == {"generator"}
    assert beginnings(travelling(model, "both", frozenset({"generator"}))) == {"generator"}
    with pytest.raises(TrainingError, match="average=retriever: the sites train generator, so that nothing"):
        travelling(model, "retriever", frozenset({"generator"}))


def test_of_a_generator_with_an_adapter_only_that_travels(model):
    with pytest.raises(TrainingError, match="average=adapters"):
        travelling(model, "adapters", TRAINED)
    rag = load_model(model)
    rag.generator.add_adapter(Lora(2, 4.0), 0)
    save_model(rag, model)
    names = travelling(model, "adapters", TRAINED)
    assert names and all(name.startswith("generator/adapter/") and "lora_" in name for name in names)
    assert {name for name in travelling(model, "both", TRAINED) if name.startswith("generator/")} == set(names)


def test_written_weights_are_the_models_own(model):
    names = travelling(model, "both", TRAINED)
    before = read_weights(model, names)
    write_weights(model, {name: weight + 1 for name, weight in before.items()})
    after, whole = read_weights(model, names), load_model(model)
    assert all(np.allclose(after[name], before[name] + 1) for name in names)
    (bias,) = [name for name in names if name.endswith("pooler.dense.bias")]
    assert torch.allclose(whole.question_encoder.backbone.pooler.dense.bias, torch.from_numpy(after[bias]))
    untouched = whole.passage_encoder.backbone.pooler.dense.bias
    assert torch.allclose(untouched, torch.from_numpy(before[bias]))


def test_a_weight_of_another_shape_or_name_is_told_with_the_site():
    own = {"generator/a": np.zeros((2, 3)), "generator/b": np.zeros(4)}
    check_same("berlin", shapes(own), shapes(own))
    with pytest.raises(TrainingError, match=r"site berlin: .*generator/b is of shape \(4,\) here and of shape \(5,\)"):
        check_same("berlin", shapes(own), shapes({**own, "generator/b": np.zeros(5)}))
    with pytest.raises(TrainingError, match=r"generator/b is of shape \(4,\) here and absent there; give every site"):
        check_same("berlin", shapes(own), shapes({"generator/a": own["generator/a"]}))


def test_files_that_cannot_be_read_are_named(model):
    with pytest.raises(ModelError, match="has no weight generator/nothing; copy"):
        read_weights(model, ["generator/nothing"])
    save_file({"weight": torch.zeros(2, dtype=torch.bfloat16)}, model / "generator" / "more.safetensors")
    with pytest.raises(ModelError, match="weight is of a type that numpy does not know"):
        read_weights(model, ["generator/weight"])
    (model / "generator" / "more.safetensors").write_bytes(b"torn")
    with pytest.raises(ModelError, match=r"more.safetensors: cannot be read as safetensors"):
        read_weights(model, ["generator/weight"])
