"""From token vectors to one vector a text: DPR's way, and what a sentence-transformers folder says about its own.

The folder is read by us, so that nothing here needs the sentence-transformers package.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ragtune.errors import ModelError
from ragtune.hub import PROMPT_NAMES, find_file, load_prompt, read_json

# The order in which sentence-transformers concatenates several poolings.
_MODES = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
# What a Dense module's config.json may ask for; anything else would mean importing a class by its name.
_ACTIVATIONS = {
    f"{kind.__module__}.{kind.__name__}": kind for kind in (nn.Identity, nn.Tanh, nn.ReLU, nn.GELU, nn.SiLU, nn.Sigmoid)
}
_SENTENCE = "sentence_embedding"


@dataclass(frozen=True)
class Pooling:
    """An encoder's way from token vectors to one vector per text.

    Attributes:
        kind: "dpr" or "sentence-transformers".
        modes: "cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"; the vectors of several are
            concatenated in their order.
        normalizes: vectors are scaled to length 1.
        max_length: longest text in tokens, special tokens included; what is longer is cut. 0: as long as the
            transformer takes.
        lowercase: texts are lower-cased before the tokenizer sees them.
        prompt: put before every text ("query: " and the like); "" for most encoders.
        subfolder: where the transformer itself stands inside the folder.
        prompts: all prompts of the folder by name, kept for saving.
    """

    kind: str
    modes: tuple[str, ...]
    normalizes: bool
    max_length: int
    lowercase: bool = False
    prompt: str = ""
    subfolder: str = ""
    prompts: dict[str, str] = field(default_factory=dict)

    def __call__(self, token_vectors: Tensor, attention_mask: Tensor) -> Tensor:
        """(n, length, d) vectors and (n, length) mask, 1 for a token, to (n, d · number of modes)."""
        token_vectors = token_vectors.to(torch.promote_types(token_vectors.dtype, torch.float32))
        mask = attention_mask.unsqueeze(-1).to(token_vectors.dtype)
        return torch.cat([_pooled(mode, token_vectors, mask) for mode in self.modes], dim=-1)

    def save(self, folder: Path, token_dimension: int, dense: Sequence["Dense"] = ()) -> None:
        """Write what makes a sentence-transformers folder of one that holds a transformer and its tokenizer.

        Raises:
            OSError: it cannot be written.
        """
        kinds = ["Transformer", "Pooling", *["Dense"] * len(dense), *["Normalize"] * self.normalizes]
        paths = ["", *(f"{place}_{kind}" for place, kind in enumerate(kinds[1:], 1))]
        for path, module in zip(paths[2:], dense, strict=False):
            module.save(folder / path)
        _write_json(
            folder / "modules.json",
            [
                {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
                for i, (kind, path) in enumerate(zip(kinds, paths, strict=True))
            ],
        )
        _write_json(
            folder / paths[1] / "config.json",
            {
                "word_embedding_dimension": token_dimension,
                **{flag: mode in self.modes for mode, flag in _MODES.items()},
            },
        )
        _write_json(
            folder / "sentence_bert_config.json", {"max_seq_length": self.max_length, "do_lower_case": self.lowercase}
        )
        prompts = self.prompts or ({names[0]: self.prompt for names in PROMPT_NAMES.values()} if self.prompt else {})
        _write_json(folder / "config_sentence_transformers.json", {"prompts": prompts, "default_prompt_name": None})


class Dense(nn.Sequential):
    """sentence-transformers' Dense module: a linear layer and an activation over the pooled vector.

    Attributes:
        activation: its full name, as the module's config.json has it.
        in_features, out_features: lengths of the vectors that it takes and gives.
    """

    def __init__(self, linear: nn.Linear, activation: str):
        super().__init__(linear, _ACTIVATIONS[activation]())
        self.activation = activation
        self.in_features, self.out_features = linear.in_features, linear.out_features

    @classmethod
    def load(cls, name_or_path: str, subfolder: str) -> "Dense":
        """Read a Dense module of a sentence-transformers folder or hub repository.

        Raises:
            ModelError: it asks for what ragtune does not have, or its weights are missing, broken or pickled.
        """
        place = f"{name_or_path}/{subfolder}"
        config = read_json(name_or_path, "config.json", subfolder)
        weights = find_file(name_or_path, "model.safetensors", subfolder)
        if config is None or weights is None:
            raise ModelError(
                f"{place}: a Dense module needs config.json and model.safetensors (pickled weights are not read); load "
                "it once with sentence-transformers where you trust it, and save it again"
            )
        activation = config.get("activation_function", "torch.nn.modules.activation.Tanh")
        reads, writes = config.get("module_input_name") or _SENTENCE, config.get("module_output_name") or _SENTENCE
        if activation not in _ACTIVATIONS or config.get("use_residual") or (reads, writes) != (_SENTENCE, _SENTENCE):
            known = " or ".join(name.rpartition(".")[2] for name in _ACTIVATIONS)
            raise ModelError(
                f"{place}/config.json: ragtune reads Dense modules over the sentence's vector, without residual, with "
                f"the activation {known}; choose such an encoder"
            )
        linear = nn.Linear(config["in_features"], config["out_features"], bias=config.get("bias", True))
        try:
            state = {name.removeprefix("linear."): value.float() for name, value in load_file(weights).items()}
            linear.load_state_dict(state)
        except (OSError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"{weights}: does not fit {place}/config.json: {error}; copy the folder whole") from error
        return cls(linear, activation)

    def untrained(self) -> "Dense":
        """Another layer of this shape, with weights of its own."""
        linear = nn.Linear(self.in_features, self.out_features, bias=self[0].bias is not None)
        return Dense(linear, self.activation)

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors, as sentence-transformers has them."""
        linear = self[0]
        _write_json(
            folder / "config.json",
            {
                "in_features": self.in_features,
                "out_features": self.out_features,
                "bias": linear.bias is not None,
                "activation_function": self.activation,
            },
        )
        state = {f"linear.{name}": value.detach().contiguous() for name, value in linear.state_dict().items()}
        save_file(state, folder / "model.safetensors")


def read_sentence_transformers(name_or_path: str, role: str) -> tuple[Pooling, list[Dense]] | None:
    """The pooling and the Dense modules of a sentence-transformers folder or hub repository.

    None where there is no modules.json.

    Args:
        name_or_path: a folder, or a name on the hub.
        role: "question" or "passage"; an encoder with prompts has one for each.

    Raises:
        ModelError: the folder asks for a module or a pooling that ragtune does not have.
    """
    modules = read_json(name_or_path, "modules.json")
    if modules is None:
        return None
    kinds = [module["type"].rsplit(".", 1)[-1] for module in modules]
    normalizes = kinds[-1] == "Normalize"
    between = kinds[2 : len(kinds) - normalizes]
    if kinds[:2] != ["Transformer", "Pooling"] or set(between) - {"Dense"}:
        raise ModelError(
            f"{name_or_path}/modules.json: modules {', '.join(kinds)}; ragtune reads Transformer, Pooling, any number "
            "of Dense, and perhaps Normalize: choose an encoder made of these"
        )
    subfolder = modules[0]["path"]
    settings = read_json(name_or_path, "sentence_bert_config.json", subfolder) or {}
    pooling_file = f"{modules[1]['path']}/config.json"
    pooling = read_json(name_or_path, pooling_file)
    if pooling is None:
        raise ModelError(
            f"{name_or_path}/{pooling_file} is missing though modules.json names it: copy the folder whole"
        )
    settings_of_prompts = read_json(name_or_path, "config_sentence_transformers.json") or {}
    prompt = load_prompt(name_or_path, role)
    if prompt and not pooling.get("include_prompt", True):
        raise ModelError(f"{name_or_path}/{pooling_file}: a prompt left out of the pooling is not supported")
    read = Pooling(
        kind="sentence-transformers",
        modes=_pooling_modes(pooling, f"{name_or_path}/{pooling_file}"),
        normalizes=normalizes,
        max_length=int(settings.get("max_seq_length") or 0),
        lowercase=bool(settings.get("do_lower_case", False)),
        prompt=prompt,
        subfolder=subfolder,
        prompts={name: text for name, text in (settings_of_prompts.get("prompts") or {}).items() if text},
    )
    dense = [Dense.load(name_or_path, module["path"]) for module in modules[2 : 2 + len(between)]]
    return read, dense


def _pooled(mode: str, token_vectors: Tensor, mask: Tensor) -> Tensor:
    """(n, length, d) vectors and (n, length, 1) mask to (n, d); padding may stand on either side."""
    if mode == "cls":
        return _at(token_vectors, mask.argmax(dim=1))
    if mode == "lasttoken":
        return _at(token_vectors, mask.shape[1] - 1 - mask.flip(1).argmax(dim=1))
    if mode == "max":
        return token_vectors.masked_fill(mask == 0, float("-inf")).amax(dim=1)
    weights = mask
    if mode == "weightedmean":  # by the place in the text, from 1
        weights = mask * mask.cumsum(dim=1)
    total = weights.sum(dim=1).clamp(min=1)
    return (token_vectors * weights).sum(dim=1) / (total.sqrt() if mode == "mean_sqrt_len_tokens" else total)


def _at(token_vectors: Tensor, places: Tensor) -> Tensor:
    """(n, length, d) vectors and (n, 1) places to (n, d)."""
    return token_vectors.gather(1, places.unsqueeze(-1).expand(-1, 1, token_vectors.shape[-1])).squeeze(1)


def _pooling_modes(pooling: dict[str, Any], place: str) -> tuple[str, ...]:
    """The modes of a 1_Pooling/config.json: one flag per mode, or (sentence-transformers 6) `pooling_mode` by name."""
    named = pooling.get("pooling_mode")
    if named is not None:
        modes = (named,) if isinstance(named, str) else tuple(named)
        unknown = [mode for mode in modes if mode not in _MODES]
    else:
        modes = tuple(mode for mode, flag in _MODES.items() if pooling.get(flag))
        unknown = [flag for flag, on in pooling.items() if on is True and flag.startswith("pooling_mode_")]
        unknown = [flag for flag in unknown if flag not in _MODES.values()]
    if unknown:
        raise ModelError(f"{place}: pooling {', '.join(unknown)}; ragtune has {', '.join(_MODES)}")
    return modes or ("mean",)


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
