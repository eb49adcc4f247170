"""LoRA by peft: a few trained weights beside the frozen ones of a generator's linear layers.

Source: Hu et al. 2021, https://arxiv.org/abs/2106.09685
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ragtune.errors import ModelError
from ragtune.hub import find_file

ALL_LINEAR = "all-linear"
FOLDER = "adapter"  # beside the generator's own weights
_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True)
class Lora:
    """The shape of an adapter.

    Attributes:
        rank: of the product of two matrices that is added to a layer's weights.
        alpha: the product is multiplied by alpha / rank.
        dropout: of its inputs, while it learns.
        targets: names of the layers, by commas; "all-linear" is every linear one but the output layer.
    """

    rank: int
    alpha: float
    dropout: float = 0.0
    targets: str = ALL_LINEAR


def make_adapter(backbone: nn.Module, name: str, lora: Lora, seed: int) -> Any:
    """Put a new adapter into a transformer, in place; it changes nothing until it learns.

    Args:
        backbone: of transformers.
        name: of the generator, for errors.
        lora: the adapter's shape.
        seed: random seed of its first weights, which must be the same in every process.

    Returns:
        peft's model around `backbone`.

    Raises:
        ModelError: peft is missing, or the transformer has no layer of the names in `lora.targets`.
    """
    with _peft(f"lora_rank={lora.rank}") as peft:
        targets = [target.strip() for target in lora.targets.split(",")]
        config = peft.LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=ALL_LINEAR if targets == [ALL_LINEAR] else targets,
        )
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                return peft.get_peft_model(backbone, config)
        except ValueError as error:
            raise ModelError(
                f'{name}: lora_targets="{lora.targets}" names no linear layer of it; give {ALL_LINEAR}, or some of '
                f"{', '.join(_linear_names(backbone))}"
            ) from error


def load_adapter(backbone: nn.Module, name_or_path: str | Path) -> Any:
    """The adapter that lies beside a generator's weights, put into its transformer; None where there is none.

    Raises:
        ModelError: peft is missing, or the adapter is broken, pickled, or another model's.
    """
    place = str(name_or_path)
    config = find_file(place, _CONFIG, FOLDER)
    if config is None:
        return None
    if find_file(place, _WEIGHTS, FOLDER) is None:
        raise ModelError(f"{place}: its {FOLDER}/ has no {_WEIGHTS}; copy the folder whole")
    with _peft(f"{place}: its adapter") as peft:
        try:
            model = peft.PeftModel.from_pretrained(backbone, config.parent, is_trainable=True)
        except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
            raise ModelError(f"{place}: its {FOLDER}/ does not fit the generator beside it: {error}") from error
    backbone.eval()
    return model


def save_adapter(adapter: Any, folder: str | Path) -> None:
    """Write an adapter, as safetensors, where `load_adapter` finds it."""
    adapter.save_pretrained(Path(folder) / FOLDER, save_embedding_layers=False)


def weights_without_adapter(backbone: nn.Module) -> dict[str, Tensor]:
    """A transformer's own weights by their own names, while an adapter is in it."""
    weights = backbone.state_dict()
    return {name.replace(".base_layer.", "."): weight for name, weight in weights.items() if ".lora_" not in name}


def _linear_names(backbone: nn.Module) -> list[str]:
    from transformers.pytorch_utils import Conv1D

    linear = (name for name, part in backbone.named_modules() if isinstance(part, nn.Linear | Conv1D))
    return sorted({name.rpartition(".")[2] for name in linear})


@contextmanager
def _peft(what: str) -> Iterator[Any]:
    try:
        import peft
    except ImportError as error:
        raise ModelError(f"{what} needs peft, which is not installed: pip install 'ragtune[lora]'") from error
    yield peft
