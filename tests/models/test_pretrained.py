"""Loading with every doubt raised."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_parts import bert, bert_tokenizer
from transformers import BertModel

from ragtune.errors import ModelError
from ragtune.models.pretrained import evaluating, load_pretrained


@pytest.fixture
def folder(tmp_path):
    bert(bert_tokenizer()).save_pretrained(tmp_path)
    return tmp_path


def edit(folder, change):
    state = load_file(folder / "model.safetensors")
    save_file(change(state), folder / "model.safetensors", metadata={"format": "pt"})


def test_weights_come_as_float32_in_evaluation_mode_and_as_another_type_where_asked(folder):
    model = load_pretrained(BertModel, str(folder))
    assert model.dtype == torch.float32 and not model.training
    assert load_pretrained(BertModel, str(folder), dtype=torch.bfloat16).dtype == torch.bfloat16


def test_a_missing_weight_is_an_error_unless_nothing_uses_it(folder):
    edit(folder, lambda state: {name: value for name, value in state.items() if not name.startswith("pooler")})
    with pytest.raises(ModelError, match=r"weights missing for BertModel: pooler\.dense\.bias, pooler\.dense\.weight"):
        load_pretrained(BertModel, str(folder))
    load_pretrained(BertModel, str(folder), may_miss=("pooler",))


def test_a_weight_of_another_shape_is_an_error(folder):
    edit(folder, lambda state: state | {"pooler.dense.bias": torch.zeros(3)})
    with pytest.raises(ModelError, match=r"pooler\.dense\.bias is \(3,\), config\.json asks for \(16,\)"):
        load_pretrained(BertModel, str(folder))


def test_pickled_weights_are_not_read_and_the_way_out_is_told(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"only there as pytorch_model\.bin, a pickle.*save_pretrained\(FOLDER\)"):
        load_pretrained(BertModel, str(folder))


def test_a_broken_or_absent_folder_is_named(folder):
    (folder / "model.safetensors").write_bytes(b"half")
    with pytest.raises(ModelError, match=r"cannot be loaded as BertModel"):
        load_pretrained(BertModel, str(folder))
    with pytest.raises(ModelError, match=r"nowhere: cannot be loaded as BertModel"):
        load_pretrained(BertModel, str(folder / "nowhere"))


@pytest.mark.parametrize("trains", [True, False])
def test_evaluating_puts_the_mode_back_even_after_an_error(trains):
    module = torch.nn.Dropout().train(trains)
    with pytest.raises(ValueError, match="mine"), evaluating(module):
        assert not module.training
        raise ValueError("mine")
    assert module.training == trains
