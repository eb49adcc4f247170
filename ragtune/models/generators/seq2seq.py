"""Encoder-decoders: BART, T5, and whatever else AutoModelForSeq2SeqLM loads. All that is theirs alone stands here."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForSeq2SeqLM,
    DynamicCache,
    EncoderDecoderCache,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.modeling_outputs import BaseModelOutput

from ragtune.errors import ModelError
from ragtune.models.generators.base import Generator, PromptTokens, Tokens, linear_weights, tokens_around
from ragtune.models.generators.decoding import end_tokens, one_each, only_special_tokens, padded_candidates, until_end
from ragtune.models.generators.likelihood import groups_of_like_length, likelihoods_by_group, logits_at
from ragtune.models.losses import IGNORED, token_log_likelihoods

# Their inputs are the encoder's tokens, though they belong to the decoder: BART's, T5's and BERT's names.
_CROSS_KEYS_AND_VALUES = re.compile(
    r"(encoder_attn|EncDecAttention|crossattention)\..*(k|v|k_proj|v_proj|key|value)(\.base_layer)?$"
)


@dataclass(frozen=True)
class EncodedPrompts:
    """Prompts, encoded.

    Attributes:
        states: (prompts, length, width).
        attention_mask: 1 for a token, (prompts, length).
    """

    states: Tensor
    attention_mask: Tensor


class Seq2SeqGenerator(Generator):
    """The encoder reads the prompt, the decoder writes the answer behind its own start token."""

    auto_class = AutoModelForSeq2SeqLM

    def __init__(self, backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        """Put a loaded encoder-decoder and its tokenizer together.

        Raises:
            ModelError: the tokenizer is another model's, or it is not said how the decoder begins.
        """
        super().__init__(backbone, tokenizer)
        self._check_start()

    @property
    def prompt_tokens(self) -> PromptTokens:
        """The special tokens that the tokenizer itself puts around a text, and padding behind them."""
        return prompt_tokens(self.tokenizer)

    def decoder_inputs(self, labels: Tensor) -> Tensor:
        """Labels moved right by one behind the decoder's own start token, -100 as padding; (batch, length)."""
        return self.backbone.prepare_decoder_input_ids_from_labels(labels)

    def log_likelihoods(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor,
        prompt_lengths: Sequence[int] | None = None,
        answer_lengths: Sequence[int] | None = None,
    ) -> Tensor:
        """As `Generator.log_likelihoods`."""
        decoder_input_ids = self.decoder_inputs(labels)
        groups = groups_of_like_length(attention_mask, self.backbone, prompt_lengths)
        if answer_lengths is None:
            answer_lengths = (labels != IGNORED).sum(dim=1).tolist()

        def logits_of(rows: Tensor, longest: int, places: Tensor) -> Tensor:
            inputs = {"input_ids": input_ids[rows, :longest], "attention_mask": attention_mask[rows, :longest]}
            inputs["decoder_input_ids"] = decoder_input_ids[rows]
            return logits_at(places, inputs["decoder_input_ids"].shape, self.backbone, **inputs)

        return likelihoods_by_group(labels, groups, answer_lengths, logits_of)

    def read(self, input_ids: Tensor, attention_mask: Tensor) -> EncodedPrompts:
        """As `Generator.read`: the encoder's states."""
        encoder = self.backbone.get_encoder()
        return EncodedPrompts(
            encoder(input_ids=input_ids, attention_mask=attention_mask, return_dict=True)[0], attention_mask
        )

    def propose(self, prompts: EncodedPrompts, num_beams: int, returned: int, max_new_tokens: int) -> list[Tokens]:
        """As `Generator.propose`; the decoder's start token is left out."""
        with only_special_tokens(self.backbone):
            sequences = self.backbone.generate(
                encoder_outputs=BaseModelOutput(prompts.states),
                attention_mask=prompts.attention_mask,
                num_beams=num_beams,
                num_return_sequences=returned,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                synced_gpus=False,  # each process answers questions of its own, with all the weights
            )
        ends = end_tokens(self.backbone.generation_config)
        return [until_end(tokens, ends) for tokens in sequences[:, 1:].tolist()]

    def score(self, prompts: EncodedPrompts, candidates: Sequence[Sequence[Tokens]]) -> Tensor:
        """As `Generator.score`.

        Candidates are taken one a prompt at a time, so that all of them share the prompt's keys and values, which cost
        far more than a short answer does.
        """
        device = prompts.states.device
        labels = padded_candidates(candidates).to(device)
        scored = torch.zeros(labels.shape, device=device)
        logits = labels.shape[-1] * self.backbone.get_output_embeddings().weight.shape[0]
        cache: Any = None
        for rows, number in one_each(candidates, logits):
            if number == 0:
                cache = None
            elif cache is not None:
                cache.cross_attention_cache.batch_select_indices(torch.arange(len(rows), device=device))
            output = self.backbone(
                encoder_outputs=BaseModelOutput(prompts.states[rows]),
                attention_mask=prompts.attention_mask[rows],
                decoder_input_ids=self.decoder_inputs(labels[rows, number]),
                past_key_values=cache,
                use_cache=True,
            )
            cache = EncoderDecoderCache(DynamicCache(), output.past_key_values.cross_attention_cache)
            scored[rows, number] = token_log_likelihoods(output.logits.float(), labels[rows, number])
        if self.backbone.generation_config.forced_bos_token_id is not None:
            scored[:, :, 0] = 0.0
        return scored

    def weights_per_token(self) -> tuple[int, int]:
        """As `Generator.weights_per_token`: of the encoder and the cross-attention's keys and values; of the rest."""
        encoder, output = self.backbone.get_encoder(), self.backbone.get_output_embeddings()
        cross = sum(
            module.weight.numel()
            for name, module in self.backbone.named_modules()
            if isinstance(module, nn.Linear) and _CROSS_KEYS_AND_VALUES.search(name)
        )
        of_prompt = linear_weights(encoder) + cross
        return of_prompt, linear_weights(self.backbone, without=output) - of_prompt + output.weight.numel()

    def _check_start(self) -> None:
        try:
            self.decoder_inputs(torch.tensor([[self.tokenizer.eos_token_id]], device=self.device))
        except (AttributeError, ValueError, TypeError, RuntimeError) as error:
            raise ModelError(
                f"{self.name}: {type(self.backbone).__name__} does not say how its decoder's inputs follow from labels "
                f"({error}); decoder_start_token_id and pad_token_id must be in its config.json"
            ) from error


def prompt_tokens(tokenizer: PreTrainedTokenizerBase) -> PromptTokens:
    """See `Seq2SeqGenerator.prompt_tokens`; the tokenizer is all that it takes."""
    return PromptTokens(tokenizer, *tokens_around(tokenizer))
