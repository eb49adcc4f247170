"""From token vectors to one vector: each way against the same in plain arithmetic, and what is read of a folder."""

import json

import pytest
import torch

from ragtune.errors import ModelError
from ragtune.models.pooling import Dense, Pooling, read_sentence_transformers

VECTORS = torch.tensor([[[1.0, 8.0], [3.0, 2.0], [99.0, 99.0]], [[99.0, 99.0], [2.0, 5.0], [4.0, 1.0]]])
MASK = torch.tensor([[1, 1, 0], [0, 1, 1]])  # padding on the right, and on the left


def pooled(*modes):
    return Pooling("sentence-transformers", modes, normalizes=False, max_length=0)(VECTORS, MASK)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("cls", [[1, 8], [2, 5]]),
        ("lasttoken", [[3, 2], [4, 1]]),
        ("mean", [[2, 5], [3, 3]]),
        ("max", [[3, 8], [4, 5]]),
        ("mean_sqrt_len_tokens", [[4 / 2**0.5, 10 / 2**0.5], [6 / 2**0.5, 6 / 2**0.5]]),
        ("weightedmean", [[7 / 3, 4], [10 / 3, 7 / 3]]),
    ],
)
def test_padding_counts_in_no_way_of_pooling(mode, expected):
    assert torch.allclose(pooled(mode), torch.tensor(expected, dtype=torch.float32))


def test_several_are_put_one_after_the_other():
    assert pooled("cls", "mean").tolist() == [[1, 8, 2, 5], [2, 5, 3, 3]]


def test_half_precision_is_pooled_in_float32():
    vectors = torch.full((1, 4096, 1), 1.0, dtype=torch.bfloat16)
    pooling = Pooling("dpr", ("mean",), normalizes=False, max_length=0)
    assert pooling(vectors, torch.ones(1, 4096)).tolist() == [[1.0]]


def test_a_saved_folder_is_read_as_it_was(tmp_path):
    dense = Dense(torch.nn.Linear(4, 3), "torch.nn.modules.activation.Tanh")
    saved = Pooling("sentence-transformers", ("cls", "mean"), True, 128, True, "query: ", prompts={"query": "query: "})
    saved.save(tmp_path, 2, [dense])
    read, modules = read_sentence_transformers(str(tmp_path), "question")
    assert read == saved
    (module,) = modules
    vector = torch.randn(1, 4)
    assert torch.equal(module(vector), dense(vector))
    assert read_sentence_transformers(str(tmp_path / "1_Pooling"), "question") is None


def change(folder, name, **settings):
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("1_Pooling/config.json", {"pooling_mode_of_tomorrow": True}, "pooling pooling_mode_of_tomorrow; ragtune has"),
        ("1_Pooling/config.json", {"pooling_mode": "attention"}, "pooling attention; ragtune has"),
        ("1_Pooling/config.json", {"include_prompt": False}, "a prompt left out of the pooling is not supported"),
        ("2_Dense/config.json", {"activation_function": "os.system"}, "with the activation Identity or"),
        ("2_Dense/config.json", {"in_features": 9}, "does not fit"),
    ],
)
def test_what_ragtune_does_not_have_is_refused(tmp_path, name, settings, message):
    dense = Dense(torch.nn.Linear(2, 3), "torch.nn.modules.activation.Tanh")
    Pooling("sentence-transformers", ("mean",), False, 0, prompt="query: ").save(tmp_path, 2, [dense])
    change(tmp_path, name, **settings)
    with pytest.raises(ModelError, match=message):
        read_sentence_transformers(str(tmp_path), "question")


def test_a_module_of_another_kind_is_refused(tmp_path):
    modules = [{"idx": 0, "name": "0", "path": "", "type": f"models.{kind}"} for kind in ("Transformer", "CNN")]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelError, match="modules Transformer, CNN; ragtune reads"):
        read_sentence_transformers(str(tmp_path), "question")


def test_an_untrained_layer_has_the_shape_and_other_weights():
    dense = Dense(torch.nn.Linear(4, 3, bias=False), "torch.nn.modules.activation.ReLU")
    other = dense.untrained()
    assert (other.in_features, other.out_features, other.activation) == (4, 3, dense.activation)
    assert other[0].bias is None and not torch.equal(other[0].weight, dense[0].weight)
