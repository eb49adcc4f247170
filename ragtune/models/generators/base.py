"""The `Generator` base class: all that retrieval-augmented generation asks of a language model."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from ragtune.errors import ModelError
from ragtune.hub import load_tokenizer
from ragtune.models.generators.adapter import Lora, make_adapter, save_adapter, weights_without_adapter
from ragtune.models.pretrained import load_pretrained

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class PromptTokens:
    """The way from a text to a generator's input.

    Attributes:
        tokenizer: the generator's.
        before, behind: tokens around every prompt, such as <s> and </s>, or a chat template's.
        pads_left: padding stands before the prompts, as a decoder-only model wants it to write on from their end.
        chats: the tokenizer's chat template may stand around a prompt, instead of these tokens.
    """

    tokenizer: PreTrainedTokenizerBase
    before: list[int]
    behind: list[int]
    pads_left: bool = False
    chats: bool = False

    @property
    def padding(self) -> int:
        """The pad token's id; where the tokenizer has none, the end token's, which the attention mask hides."""
        pad = self.tokenizer.pad_token_id
        return self.tokenizer.eos_token_id if pad is None else pad

    def pad(self, prompts: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Token ids of n prompts, `before` and `behind` put around them, to a batch.

        Returns:
            `input_ids` and `attention_mask`, int64 (n, longest), 1 for a token, on the CPU.
        """
        longest = max(map(len, prompts), default=0) + len(self.before) + len(self.behind)
        input_ids = torch.full((len(prompts), longest), self.padding)
        attention_mask = torch.zeros_like(input_ids)
        for row, prompt in enumerate(prompts):
            tokens = torch.tensor([*self.before, *prompt, *self.behind])
            start = longest - len(tokens) if self.pads_left else 0
            input_ids[row, start : start + len(tokens)] = tokens
            attention_mask[row, start : start + len(tokens)] = 1
        return {"input_ids": input_ids, "attention_mask": attention_mask}


class Generator(nn.Module, ABC):
    """A language model that answers prompts, and its tokenizer. A family of models is one subclass in one file.

    Three questions are asked of it: how likely are these answers, token by token, with gradient (`log_likelihoods`);
    which answers does beam search find (`propose`); how likely are these candidates, without gradient (`score`). The
    last two share what has been computed of the prompts: `read` does it once.

    Attributes:
        backbone: the transformer, float32.
        tokenizer: its tokenizer.
        adapters: none, or peft's model around the backbone, whose LoRA weights then learn alone.
        auto_class: transformers' class that loads a backbone of this family.
        needed_tokens: special tokens that the tokenizer must have.
    """

    auto_class: ClassVar[Any]
    needed_tokens: ClassVar[tuple[str, ...]] = ("pad_token", "eos_token")

    def __init__(self, backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        """Put a loaded transformer and its tokenizer together.

        Raises:
            ModelError: the tokenizer is another model's, or lacks one of `needed_tokens`.
        """
        super().__init__()
        self.backbone: Any = backbone
        self.tokenizer = tokenizer
        self.adapters: list[Any] = []  # in a list, for its weights are in the backbone already
        self._check_tokenizer()

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, trust_remote_code: bool = False) -> Self:
        """As `ragtune.models.generators.loading.load_generator`, without an adapter."""
        place = str(name_or_path)
        return cls(
            load_pretrained(cls.auto_class, place, trust_remote_code=trust_remote_code),
            load_tokenizer(place, trust_remote_code=trust_remote_code),
        )

    @property
    def device(self) -> torch.device:
        return self.backbone.device

    @property
    def name(self) -> str:
        """The folder or hub name that it was loaded from, or its class."""
        return self.backbone.name_or_path or type(self.backbone).__name__

    @property
    @abstractmethod
    def prompt_tokens(self) -> PromptTokens:
        """The way from a prompt to this generator's input."""

    @abstractmethod
    def log_likelihoods(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor,
        prompt_lengths: Sequence[int] | None = None,
        answer_lengths: Sequence[int] | None = None,
    ) -> Tensor:
        """log p(y_t | y_<t, prompt) of every label, with gradient; 0 where the label is -100.

        Args:
            input_ids, attention_mask: of the prompts, (prompts, length), as `PromptTokens.pad` made them.
            labels: the answers' tokens with their end, (prompts, answer length), padded with -100.
            prompt_lengths, answer_lengths: tokens of each prompt and answer; without them a GPU is waited for.

        Returns:
            (prompts, answer length), in nats.
        """

    @abstractmethod
    def read(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        """Compute once what `propose` and `score` want to know of the prompts; arguments as `log_likelihoods`."""

    @abstractmethod
    def propose(self, prompts: Any, num_beams: int, returned: int, max_new_tokens: int) -> list[Tokens]:
        """Beam search from every prompt.

        Args:
            prompts: from `read`.
            num_beams: 1 is greedy search.
            returned: answers a prompt, at most `num_beams`.
            max_new_tokens: longest answer.

        Returns:
            `returned` answers of the first prompt, best first, then of the second …: tokens with their end, without
            what the family itself puts before an answer and without padding.
        """

    @abstractmethod
    def score(self, prompts: Any, candidates: Sequence[Sequence[Tokens]]) -> Tensor:
        """log p of every token of every prompt's own candidates, without gradient.

        Args:
            prompts: from `read`.
            candidates: one list a prompt, as `propose` writes them.

        Returns:
            (prompts, most candidates, longest candidate), in nats; 0 where there is none, and for a token that the
            generator is forced to write.
        """

    @abstractmethod
    def weights_per_token(self) -> tuple[int, int]:
        """Weights of linear layers that a prompt's token, and an answer's, are multiplied with; for counting FLOPs."""

    def decode(self, tokens: Sequence[int]) -> str:
        """An answer's text, special tokens removed."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True)).strip()

    def add_adapter(self, lora: Lora, seed: int = 0) -> None:
        """Leave all weights as they are from now on, and train an adapter instead, which changes nothing at first.

        Raises:
            ModelError: as `ragtune.models.generators.adapter.make_adapter`.
        """
        self.adapters = [make_adapter(self.backbone, self.name, lora, seed)]

    def merge_adapter(self) -> None:
        """Add an adapter, where there is one, to the weights beside it, and drop it."""
        while self.adapters:
            self.backbone = self.adapters.pop().merge_and_unload()

    def requires_grad_(self, requires_grad: bool = True) -> "Generator":
        """As any module's, but that of a generator with an adapter nothing else learns."""
        super().requires_grad_(requires_grad)
        for name, weight in self.named_parameters() if self.adapters else ():
            weight.requires_grad_(requires_grad and ".lora_" in name)
        return self

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder that transformers' Auto classes load back; safetensors.

        An adapter lies in adapter/ beside the weights that it belongs to, which are then as they were before it.
        """
        weights = {"state_dict": weights_without_adapter(self.backbone)} if self.adapters else {}
        self.backbone.save_pretrained(folder, **weights)
        for adapter in self.adapters:
            save_adapter(adapter, folder)
        self.tokenizer.save_pretrained(folder)

    def _check_tokenizer(self) -> None:
        rows = self.backbone.get_input_embeddings().num_embeddings
        if len(self.tokenizer) > rows:
            raise ModelError(
                f"{self.name}: the tokenizer has {len(self.tokenizer)} tokens, the generator embeds {rows}: use the "
                "tokenizer that the generator was trained with"
            )
        for name in self.needed_tokens:
            of_tokenizer = getattr(self.tokenizer, f"{name}_id")
            of_backbone = getattr(self.backbone.config, f"{name}_id", None)
            if of_tokenizer is None:
                raise ModelError(
                    f"{self.name}: the tokenizer has no {name}, which a generator needs: name one of its own tokens as "
                    f"{name} in tokenizer_config.json"
                )
            if isinstance(of_backbone, int) and of_backbone != of_tokenizer:
                raise ModelError(
                    f"{self.name}: {name}_id is {of_tokenizer} for the tokenizer, {of_backbone} for the generator: use "
                    "the tokenizer that the generator was trained with"
                )


def tokens_around(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Special tokens that the tokenizer itself puts before and behind a text, such as <s> and </s>."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a")["input_ids"]
    start = next(i for i in range(len(full) - len(bare) + 1) if full[i : i + len(bare)] == bare)
    return full[:start], full[start + len(bare) :]


def linear_weights(module: nn.Module, without: nn.Module | None = None) -> int:
    """Weights of a module's linear layers, `without` left out: two FLOPs each for a token that passes through."""
    linear = (part for part in module.modules() if isinstance(part, (nn.Linear, Conv1D)) and part is not without)
    return sum(part.weight.numel() for part in linear)
