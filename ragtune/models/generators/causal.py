"""Decoder-only language models: GPT-2, Llama, Qwen and whatever else AutoModelForCausalLM loads.

Prompt and answer are one sequence. All that is theirs alone stands here.
"""

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from ragtune.models.generators.base import Generator, PromptTokens, Tokens, linear_weights, tokens_around
from ragtune.models.generators.decoding import (
    end_tokens,
    one_each,
    only_special_tokens,
    padded_candidates,
    until_end,
)
from ragtune.models.generators.likelihood import groups_of_like_length, likelihoods_by_group, logits_at
from ragtune.models.losses import IGNORED, token_log_likelihoods


@dataclass(frozen=True)
class ReadPrompts:
    """Prompts whose keys and values are known.

    Attributes:
        input_ids, attention_mask: (prompts, length), padding on the left.
        cache: keys and values of all tokens but each prompt's last, whose output is the answer's first token.
    """

    input_ids: Tensor
    attention_mask: Tensor
    cache: DynamicCache


class CausalGenerator(Generator):
    """The answer goes on where the prompt ends; the prompt's own tokens are never labels."""

    auto_class = AutoModelForCausalLM
    needed_tokens: ClassVar[tuple[str, ...]] = ("eos_token",)

    @property
    def prompt_tokens(self) -> PromptTokens:
        """The tokenizer's own tokens before a text, such as <s>; none behind, as the text goes on with the answer."""
        before, _ = tokens_around(self.tokenizer)
        return PromptTokens(self.tokenizer, before, [], pads_left=True, chats=True)

    def log_likelihoods(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor,
        prompt_lengths: Sequence[int] | None = None,
        answer_lengths: Sequence[int] | None = None,
    ) -> Tensor:
        """As `Generator.log_likelihoods`; prompts may be padded on either side.

        Each answer is moved up to its prompt's last token, so that all padding stands behind, where no token sees it:
        neither a mask nor positions are needed. An answer's last token is predicted, and never read.
        """
        if prompt_lengths is None:
            prompt_lengths = attention_mask.sum(dim=1).tolist()
        if answer_lengths is None:
            answer_lengths = (labels != IGNORED).sum(dim=1).tolist()
        lengths = [max(1, prompt + answer - 1) for prompt, answer in zip(prompt_lengths, answer_lengths, strict=True)]
        sequences = _joined(input_ids, attention_mask, labels, max(lengths))
        last_of_prompt = attention_mask.sum(dim=1) - 1
        groups = groups_of_like_length(sequences, self.backbone, lengths)

        def logits_of(rows: Tensor, longest: int, places: Tensor) -> Tensor:
            row, position = places // labels.shape[1], places % labels.shape[1]
            before = row * longest + last_of_prompt[rows][row] + position
            chosen = sequences[rows, :longest]
            return logits_at(before, chosen.shape, self.backbone, input_ids=chosen)

        return likelihoods_by_group(labels, groups, answer_lengths, logits_of)

    def read(self, input_ids: Tensor, attention_mask: Tensor) -> ReadPrompts:
        """As `Generator.read`: keys and values of the prompts, padded on either side."""
        input_ids, attention_mask = _moved_right(input_ids, attention_mask)
        cache = DynamicCache(config=self.backbone.config)
        if input_ids.shape[1] > 1:
            self.backbone.base_model(  # without the output layer
                input_ids=input_ids[:, :-1],
                attention_mask=attention_mask[:, :-1],
                past_key_values=cache,
                use_cache=True,
                **self._positions(attention_mask[:, :-1]),
            )
        return ReadPrompts(input_ids, attention_mask, cache)

    def propose(self, prompts: ReadPrompts, num_beams: int, returned: int, max_new_tokens: int) -> list[Tokens]:
        """As `Generator.propose`."""
        cache = _branch(prompts.cache)
        cache.batch_repeat_interleave(num_beams)
        ends = end_tokens(self.backbone.generation_config) | {self.tokenizer.eos_token_id}
        special = {"eos_token_id": sorted(ends), "pad_token_id": self.prompt_tokens.padding}
        with only_special_tokens(self.backbone, **special):
            sequences = self.backbone.generate(
                input_ids=prompts.input_ids,
                attention_mask=prompts.attention_mask,
                past_key_values=cache,
                num_beams=num_beams,
                num_return_sequences=returned,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                synced_gpus=False,  # each process answers questions of its own, with all the weights
            )
        return [until_end(tokens, ends) for tokens in sequences[:, prompts.input_ids.shape[1] :].tolist()]

    def score(self, prompts: ReadPrompts, candidates: Sequence[Sequence[Tokens]]) -> Tensor:
        """As `Generator.score`; a prompt's candidates go on, one after the other, from the same keys and values."""
        device = prompts.input_ids.device
        labels = padded_candidates(candidates).to(device)
        scored = torch.zeros(labels.shape, device=device)
        logits = labels.shape[-1] * self.backbone.get_output_embeddings().weight.shape[0]
        for rows, number in one_each(candidates, logits):
            chosen = torch.tensor(rows, device=device)
            found = labels[chosen, number]
            tokens = torch.cat([prompts.input_ids[chosen, -1:], found[:, :-1].clamp(min=0)], dim=1)
            mask = torch.cat([prompts.attention_mask[chosen], torch.ones_like(found[:, :-1])], dim=1)
            cache = _branch(prompts.cache)
            cache.batch_select_indices(chosen)
            positions = {name: of_all[:, -tokens.shape[1] :] for name, of_all in self._positions(mask).items()}
            output = self.backbone(
                input_ids=tokens, attention_mask=mask, past_key_values=cache, use_cache=True, **positions
            )
            scored[chosen, number] = token_log_likelihoods(output.logits.float(), found)
        return scored

    def weights_per_token(self) -> tuple[int, int]:
        """As `Generator.weights_per_token`: all but the output layer; all."""
        output = self.backbone.get_output_embeddings()
        of_prompt = linear_weights(self.backbone, without=output)
        return of_prompt, of_prompt + output.weight.numel()

    def _positions(self, attention_mask: Tensor) -> dict[str, Tensor]:
        """Positions that padding on the left does not count in, for a transformer that takes any."""
        if "position_ids" not in inspect.signature(self.backbone.forward).parameters:
            return {}
        return {"position_ids": (attention_mask.cumsum(dim=1) - 1).clamp(min=0)}


def _joined(input_ids: Tensor, attention_mask: Tensor, labels: Tensor, length: int) -> Tensor:
    """Every prompt without its padding, and its answer right behind it, cut to `length`: (prompts, length).

    Some token stands where neither is.
    """
    columns = torch.arange(length, device=labels.device)
    starts, lengths = _prompt_bounds(attention_mask)
    of_prompt = input_ids.gather(1, (starts + columns).clamp(max=input_ids.shape[1] - 1))
    of_answer = labels.clamp(min=0).gather(1, (columns - lengths).clamp(0, labels.shape[1] - 1))
    return torch.where(columns < lengths, of_prompt, of_answer)


def _moved_right(input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    """The same prompts with all padding on the left."""
    width = input_ids.shape[1]
    columns = torch.arange(width, device=input_ids.device)
    starts, lengths = _prompt_bounds(attention_mask)
    sources = (columns + starts + lengths - width).clamp(min=0)
    return input_ids.gather(1, sources), (columns >= width - lengths).long()


def _prompt_bounds(attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    """The first place of each prompt and its length, (prompts, 1) both."""
    return attention_mask.argmax(dim=1, keepdim=True), attention_mask.sum(dim=1, keepdim=True)


def _branch(cache: DynamicCache) -> DynamicCache:
    """The same keys and values, to go on from without changing the original, which shares their memory.

    Layers that grow by concatenation leave the tensors as they were; any other kind, such as a recurrent state, which
    is written in place, is copied.
    """
    growing = (DynamicLayer, DynamicSlidingWindowLayer)
    branch = copy.copy(cache)
    branch.layers = [copy.copy(layer) if type(layer) in growing else copy.deepcopy(layer) for layer in cache.layers]
    return branch
