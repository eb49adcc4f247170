"""Encoders: questions and passages to vectors whose inner product says how well they go together.

Two kinds, told apart by what the folder holds: DPR (the first token's vector) and sentence-transformers (pooling, dense
layers, normalisation and prompts as the folder itself says). https://arxiv.org/abs/2004.04906, https://arxiv.org/abs/1908.10084
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoModel,
    DPRContextEncoder,
    DPRQuestionEncoder,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ragtune.errors import ModelError
from ragtune.hub import load_tokenizer, read_json
from ragtune.knowledge.passages import Passage
from ragtune.models.batching import batches, pad
from ragtune.models.devices import computes_in_bfloat16
from ragtune.models.pooling import Dense, Pooling, read_sentence_transformers
from ragtune.models.pretrained import evaluating, load_pretrained
from ragtune.models.weights import add_weights
from ragtune.progress import progress as show_progress

_DPR_CLASSES = {"question": DPRQuestionEncoder, "passage": DPRContextEncoder}


class Encoder(nn.Module):
    """A transformer, its tokenizer, and the way from token vectors to one vector a text.

    Attributes:
        backbone: the transformer, float32.
        tokenizer: its tokenizer.
        pooling: kind, modes, normalisation, longest input, prompt.
        dense: layers over the pooled vector; none for most encoders.
        name: what it was loaded from, for manifests and reports.
    """

    def __init__(
        self,
        backbone: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        pooling: Pooling,
        name: str,
        dense: Sequence[Dense] = (),
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.tokenizer = tokenizer
        self.pooling = pooling
        self.name = name
        self.dense = nn.Sequential(*dense)
        self._freeze_idle()

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        role: str = "question",
        trust_remote_code: bool = False,
        dtype: torch.dtype = torch.float32,
        attn_implementation: str = "",
    ) -> "Encoder":
        """Load a DPR or a sentence-transformers folder, or the like from the hub.

        Args:
            name_or_path: a local folder, or a name on the hub, with @revision behind it if one is meant.
            role: "question" or "passage"; says which of DPR's two encoders, and which prompt, is meant.
            trust_remote_code: run Python code that comes with the model. Off unless the source is trusted.
            dtype: of the transformer's weights in memory; float32 where they are trained.
            attn_implementation: "eager", "sdpa", "flash_attention_2"; "" is transformers' own choice.

        Raises:
            ModelError: nothing is there, it is neither kind, it is the other role's, or its weights do not fit.
        """
        if role not in _DPR_CLASSES:
            raise ModelError(f'role "{role}": an encoder is for "question" or "passage"')
        place = str(name_or_path)
        pooling, dense = read_sentence_transformers(place, role) or (None, [])
        if pooling is None:
            config = read_json(place, "config.json")
            if config is None:
                raise ModelError(f"{place}: no config.json; nothing is there, or the hub cannot be reached")
            if config.get("model_type") != "dpr":
                raise ModelError(
                    f"{place}: no encoder. A sentence-transformers folder has modules.json, a DPR one config.json with "
                    'model_type "dpr"; this has neither'
                )
        options: dict[str, Any] = {
            "trust_remote_code": trust_remote_code,
            "subfolder": pooling.subfolder if pooling else "",
            "dtype": dtype,
            "attn_implementation": attn_implementation,
        }
        if pooling is None:
            backbone = load_pretrained(_dpr_class(place, role), place, **options)
        else:
            backbone = load_pretrained(AutoModel, place, may_miss=("pooler.",), **options)
        tokenizer = load_tokenizer(place, trust_remote_code)
        longest = min(tokenizer.model_max_length, getattr(backbone.config, "max_position_embeddings", 512))
        if pooling is None:
            pooling = Pooling("dpr", ("cls",), normalizes=False, max_length=longest)
        elif not pooling.max_length:
            pooling = replace(pooling, max_length=longest)
        return cls(backbone, tokenizer, pooling, place, dense).eval()

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        config = self.backbone.config
        if self.pooling.kind == "dpr":
            return config.projection_dim or config.hidden_size
        if len(self.dense):
            return cast("Dense", self.dense[-1]).out_features
        return config.hidden_size * len(self.pooling.modes)

    @property
    def normalizes(self) -> bool:
        """True where the vectors have length 1."""
        return self.pooling.normalizes

    @property
    def prompt(self) -> str:
        """The words put before every text; `encode` adds them, a tokenizer called directly does not."""
        return self.pooling.prompt

    @property
    def device(self) -> torch.device:
        return self.backbone.device

    @property
    def precision(self) -> str:
        """The one that `encode_passages` computes in: "bfloat16" where the device multiplies it faster, or "float32".

        Vectors of the two are near (cosine above .999), but not equal: they are never mixed in one knowledge base.
        """
        return "bfloat16" if computes_in_bfloat16(self.device) else "float32"

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the live weights, the tokenizer and the pooling, 64 hex digits. Computed again at every call.

        Encoders of equal weights agree, wherever and in whatever precision they were saved from.
        """
        digest = hashlib.sha256()
        backbone, dense = self.backbone.state_dict(), self.dense.state_dict()
        add_weights(digest, {name: weight for name, weight in backbone.items() if not name.startswith("pooler.")})
        add_weights(digest, {f"dense.{name}": weight for name, weight in dense.items()})
        digest.update(" ".join(cast("Dense", layer).activation for layer in self.dense).encode())
        digest.update(_tokenizer_description(self.tokenizer).encode())
        pooling = asdict(replace(self.pooling, subfolder=""))
        del pooling["prompts"]  # `prompt` is the one that counts
        digest.update(json.dumps(pooling, sort_keys=True).encode())
        return digest.hexdigest()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(n, length) token ids and mask to (n, dimension) vectors, with gradient."""
        output = self.backbone(input_ids=input_ids, attention_mask=attention_mask, return_dict=True)
        if self.pooling.kind == "dpr":
            return output.pooler_output
        vectors = self.dense(self.pooling(output.last_hidden_state, attention_mask))
        return F.normalize(vectors, dim=-1) if self.pooling.normalizes else vectors

    def encode(
        self,
        texts: Sequence[str],
        batch_size: int = 0,
        max_length: int = 0,
        progress: bool = False,
        precision: str = "float32",
    ) -> np.ndarray:
        """Vectors of texts, without gradient and without dropout.

        Args:
            texts: any number, any order; they are sorted by length for the work and come back in their own order.
            batch_size: texts a forward pass; 0 means as many as suit the device.
            max_length: longest text in tokens; 0 means the encoder's own.
            progress: show how far it is.
            precision: "float32"; "bfloat16", by autocast; or "auto": bfloat16 where the device computes in it.

        Returns:
            float32 (len(texts), dimension).
        """
        items = [(self.prompt + text,) for text in texts]
        return self._encode(items, batch_size, max_length, progress, precision)

    def encode_passages(
        self,
        passages: Sequence[Passage],
        batch_size: int = 0,
        max_length: int = 0,
        progress: bool = False,
        precision: str = "auto",
    ) -> np.ndarray:
        """As `encode`, for passages: DPR reads the pair (title, text), sentence-transformers "title. text"."""
        return self._encode(self._passage_texts(passages), batch_size, max_length, progress, precision)

    def tokenize_passages(self, passages: Sequence[Passage]) -> list[list[int]]:
        """The token ids that `encode_passages` makes of each passage, cut to the encoder's longest input."""
        return self._tokens(self._passage_texts(passages), self.pooling.max_length) if passages else []

    def pad(self, tokens: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Token ids of n texts to (n, longest) ids and mask, 1 for a token, on the CPU."""
        return pad(tokens, self.tokenizer.pad_token_id or 0)

    def requires_grad_(self, requires_grad: bool = True) -> "Encoder":
        """As any module's; the parameters that no vector depends on stay without a gradient."""
        super().requires_grad_(requires_grad)
        self._freeze_idle()
        return self

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder that DPR's classes, or sentence-transformers, load back; safetensors."""
        folder = Path(folder)
        self.backbone.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        if self.pooling.kind != "dpr":
            self.pooling.save(folder, self.backbone.config.hidden_size, [cast("Dense", layer) for layer in self.dense])

    def _freeze_idle(self) -> None:
        """BERT's pooler, which no pooling here uses: with a gradient of None it would stop DDP."""
        pooler = getattr(self.backbone, "pooler", None)
        if isinstance(pooler, nn.Module):
            pooler.requires_grad_(False)

    def _encode(
        self, items: Sequence[tuple[str, ...]], batch_size: int, max_length: int, progress: bool, precision: str
    ) -> np.ndarray:
        vectors = np.empty((len(items), self.dimension), dtype=np.float32)
        shown = show_progress(range(len(items)), "encoding", unit="texts") if progress else iter(())
        halved = precision == "bfloat16" or (precision == "auto" and computes_in_bfloat16(self.device))
        autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=halved)
        tokenize = partial(self._tokens, max_length=max_length or self.pooling.max_length)
        computed: list[tuple[np.ndarray, Tensor]] = []
        with evaluating(self), torch.inference_mode(), autocast:
            for positions, tokens in batches(items, tokenize, self.device, batch_size):
                computed.append((positions, self(*map(self._to_device, self.pad(tokens)))))
                if len(computed) > 1:  # a GPU is at work on the newest one while the one before is fetched
                    _fetch(computed.pop(0), vectors)
                for _ in islice(shown, len(positions)):
                    pass
            for last in computed:
                _fetch(last, vectors)
        return vectors

    def _to_device(self, tensor: Tensor) -> Tensor:
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor

    def _passage_texts(self, passages: Sequence[Passage]) -> list[tuple[str, ...]]:
        if self.pooling.kind == "dpr":
            return [(passage.title, passage.text) for passage in passages]
        return [
            (self.prompt + (f"{passage.title}. {passage.text}" if passage.title else passage.text),)
            for passage in passages
        ]

    def _tokens(self, items: Sequence[tuple[str, ...]], max_length: int) -> list[list[int]]:
        columns = [list(column) for column in zip(*items, strict=True)]
        tokens = self.tokenizer(*columns, truncation=True, max_length=max_length, return_attention_mask=False)
        return tokens["input_ids"]


def _dpr_class(place: str, role: str) -> type[PreTrainedModel]:
    wanted = _DPR_CLASSES[role]
    architectures = (read_json(place, "config.json") or {}).get("architectures") or [wanted.__name__]
    if wanted.__name__ not in architectures:
        raise ModelError(
            f"{place}: holds {', '.join(architectures)}, but the {role} encoder must be a {wanted.__name__}: are the "
            "question and the passage encoder swapped?"
        )
    return wanted


def _fetch(computed: tuple[np.ndarray, Tensor], vectors: np.ndarray) -> None:
    positions, found = computed
    vectors[positions] = found.float().cpu().numpy()


def _tokenizer_description(tokenizer: PreTrainedTokenizerBase) -> str:
    if not tokenizer.is_fast:
        return json.dumps([type(tokenizer).__name__, sorted(tokenizer.get_vocab().items())])
    description: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    for state_of_last_call in ("truncation", "padding"):
        description.pop(state_of_last_call, None)
    return json.dumps(description, sort_keys=True)
