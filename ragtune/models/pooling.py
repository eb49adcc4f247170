"""From token vectors to one vector a text: DPR's way, and what a sentence-transformers folder says about its own.

The folder is read by us, so that nothing here needs the sentence-transformers package.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ragtune.errors import ModelError
from ragtune.models.pretrained import read_json

# The order in which sentence-transformers concatenates several poolings.
_MODES = {"cls": "pooling_mode_cls_token", "max": "pooling_mode_max_tokens", "mean": "pooling_mode_mean_tokens"}
_OTHER_MODES = ("pooling_mode_mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens", "pooling_mode_lasttoken")
_PROMPT_NAMES = {"question": ("query",), "passage": ("document", "passage", "corpus")}


@dataclass(frozen=True)
class Pooling:
    """How an encoder makes one vector of a text.

    Attributes:
        kind: "dpr" or "sentence-transformers".
        modes: "cls", "max", "mean"; the vectors of several are concatenated in this order.
        normalizes: vectors are scaled to length 1.
        max_length: longest text in tokens, special tokens included; what is longer is cut. 0: as long as the
            transformer takes.
        lowercase: texts are lower-cased before the tokenizer sees them.
        prompt: put before every text ("query: " and the like); "" for most encoders.
        subfolder: where the transformer itself stands inside the folder.
    """

    kind: str
    modes: tuple[str, ...]
    normalizes: bool
    max_length: int
    lowercase: bool = False
    prompt: str = ""
    subfolder: str = ""

    def __call__(self, token_vectors: Tensor, attention_mask: Tensor) -> Tensor:
        """(n, length, d) vectors and (n, length) mask, 1 for a token, to (n, d · number of modes)."""
        token_vectors = token_vectors.to(torch.promote_types(token_vectors.dtype, torch.float32))
        mask = attention_mask.unsqueeze(-1).to(token_vectors.dtype)
        pooled = []
        for mode in self.modes:
            if mode == "cls":
                pooled.append(token_vectors[:, 0])
            elif mode == "max":
                pooled.append(token_vectors.masked_fill(mask == 0, float("-inf")).amax(dim=1))
            else:
                pooled.append((token_vectors * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1))
        vectors = torch.cat(pooled, dim=-1)
        return F.normalize(vectors, dim=-1) if self.normalizes else vectors

    def save(self, folder: Path, token_dimension: int) -> None:
        """Write what makes a sentence-transformers folder of one that holds a transformer and its tokenizer."""
        modules = ["Transformer", "Pooling", "Normalize"][: 3 if self.normalizes else 2]
        paths = ["", "1_Pooling", "2_Normalize"]
        _write_json(
            folder / "modules.json",
            [
                {"idx": i, "name": str(i), "path": paths[i], "type": f"sentence_transformers.models.{module}"}
                for i, module in enumerate(modules)
            ],
        )
        _write_json(
            folder / "1_Pooling" / "config.json",
            {
                "word_embedding_dimension": token_dimension,
                **{flag: mode in self.modes for mode, flag in _MODES.items()},
            },
        )
        _write_json(
            folder / "sentence_bert_config.json", {"max_seq_length": self.max_length, "do_lower_case": self.lowercase}
        )
        prompts = {name: self.prompt for names in _PROMPT_NAMES.values() for name in names[:1]} if self.prompt else {}
        _write_json(folder / "config_sentence_transformers.json", {"prompts": prompts, "default_prompt_name": None})


def read_sentence_transformers(name_or_path: str, role: str) -> Pooling | None:
    """The pooling of a sentence-transformers folder or hub repository; None where there is no modules.json.

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
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise ModelError(
            f"{name_or_path}/modules.json: modules {', '.join(kinds)}; ragtune reads Transformer, Pooling and perhaps "
            "Normalize: choose an encoder made of these"
        )
    subfolder = modules[0]["path"]
    settings = read_json(name_or_path, "sentence_bert_config.json", subfolder) or {}
    pooling_file = f"{modules[1]['path']}/config.json"
    pooling = read_json(name_or_path, pooling_file)
    if pooling is None:
        raise ModelError(
            f"{name_or_path}/{pooling_file} is missing though modules.json names it: copy the folder whole"
        )
    prompts = (read_json(name_or_path, "config_sentence_transformers.json") or {}).get("prompts") or {}
    prompt = next((prompts[name] for name in _PROMPT_NAMES[role] if prompts.get(name)), "")
    if prompt and not pooling.get("include_prompt", True):
        raise ModelError(f"{name_or_path}/{pooling_file}: a prompt left out of the pooling is not supported")
    return Pooling(
        kind="sentence-transformers",
        modes=_pooling_modes(pooling, f"{name_or_path}/{pooling_file}"),
        normalizes=len(kinds) == 3,
        max_length=int(settings.get("max_seq_length") or 0),
        lowercase=bool(settings.get("do_lower_case", False)),
        prompt=prompt,
        subfolder=subfolder,
    )


def _pooling_modes(pooling: dict[str, Any], place: str) -> tuple[str, ...]:
    """The modes of a 1_Pooling/config.json: one flag a mode, or (sentence-transformers 6) `pooling_mode` by name."""
    named = pooling.get("pooling_mode")
    if named is not None:
        modes = (named,) if isinstance(named, str) else tuple(named)
        unknown = [mode for mode in modes if mode not in _MODES]
    else:
        modes = tuple(mode for mode, flag in _MODES.items() if pooling.get(flag))
        unknown = [flag for flag in _OTHER_MODES if pooling.get(flag)]
    if unknown:
        raise ModelError(f"{place}: pooling {', '.join(unknown)}; ragtune has {', '.join(_MODES)}")
    return modes or ("mean",)


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
