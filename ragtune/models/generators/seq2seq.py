"""Encoder-decoders: BART, T5, and whatever else AutoModelForSeq2SeqLM loads. All that is theirs alone stands here."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForSeq2SeqLM,
    DynamicCache,
    EncoderDecoderCache,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.modeling_outputs import BaseModelOutput

from ragtune.errors import ModelError
from ragtune.hub import load_tokenizer
from ragtune.models.generators.base import Generator, PromptTokens, Tokens, linear_weights
from ragtune.models.generators.likelihood import groups_of_like_length, label_places, output_only_at
from ragtune.models.losses import IGNORED, token_log_likelihoods
from ragtune.models.pretrained import load_pretrained

# Logits that are held at once while candidates are scored: 256 MiB in float32.
_LOGITS_AT_ONCE = 1 << 26
_SPECIAL_TOKENS = (
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "decoder_start_token_id",
    "forced_bos_token_id",
    "forced_eos_token_id",
)
# Their inputs are the encoder's tokens, though they belong to the decoder: BART's, T5's and BERT's names.
_CROSS_KEYS_AND_VALUES = re.compile(r"(encoder_attn|EncDecAttention|crossattention)\..*(k|v|k_proj|v_proj|key|value)$")


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

    def __init__(self, backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        """Put a loaded encoder-decoder and its tokenizer together.

        Raises:
            ModelError: the tokenizer is another model's, or it is not said how the decoder begins.
        """
        super().__init__(backbone, tokenizer)
        self._check_start()

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, trust_remote_code: bool = False) -> "Seq2SeqGenerator":
        """As `ragtune.models.generators.loading.load_generator`."""
        place = str(name_or_path)
        return cls(
            load_pretrained(AutoModelForSeq2SeqLM, place, trust_remote_code=trust_remote_code),
            load_tokenizer(place, trust_remote_code=trust_remote_code),
        )

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
        found = []
        for chosen, longest in groups:
            rows = torch.tensor(chosen, device=labels.device)
            prompts, mask = input_ids[rows, :longest], attention_mask[rows, :longest]
            places = label_places(labels[rows], sum(answer_lengths[row] for row in chosen))
            found.append(self._of_group(prompts, mask, decoder_input_ids[rows], labels[rows], places))
        if len(groups) == 1:
            return found[0]
        order = torch.tensor([row for chosen, _ in groups for row in chosen], device=labels.device)
        return torch.cat(found)[order.argsort()]

    def _of_group(
        self, input_ids: Tensor, attention_mask: Tensor, decoder_input_ids: Tensor, labels: Tensor, places: Tensor
    ) -> Tensor:
        with output_only_at(places, labels.shape, self.backbone.get_output_embeddings()):
            logits = self.backbone(
                input_ids=input_ids, attention_mask=attention_mask, decoder_input_ids=decoder_input_ids, use_cache=False
            ).logits
        if logits.dim() == 3:  # an output layer of another kind has seen all positions
            logits = logits.flatten(0, 1)[places]
        log_likelihoods = token_log_likelihoods(logits, labels.flatten()[places])
        return log_likelihoods.new_zeros(labels.numel()).index_copy(0, places, log_likelihoods).view(labels.shape)

    def read(self, input_ids: Tensor, attention_mask: Tensor) -> EncodedPrompts:
        """As `Generator.read`: the encoder's states."""
        encoder = self.backbone.get_encoder()
        return EncodedPrompts(
            encoder(input_ids=input_ids, attention_mask=attention_mask, return_dict=True)[0], attention_mask
        )

    def propose(self, prompts: EncodedPrompts, num_beams: int, returned: int, max_new_tokens: int) -> list[Tokens]:
        """As `Generator.propose`; the decoder's start token is left out."""
        with self._only_special_tokens():
            sequences = self.backbone.generate(
                encoder_outputs=BaseModelOutput(prompts.states),
                attention_mask=prompts.attention_mask,
                num_beams=num_beams,
                num_return_sequences=returned,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                synced_gpus=False,  # each process answers questions of its own, with all the weights
            )
        ends = self.backbone.generation_config.eos_token_id
        ends = set(ends) if isinstance(ends, list) else {ends}
        return [_until_end(tokens, ends) for tokens in sequences[:, 1:].tolist()]

    def score(self, prompts: EncodedPrompts, candidates: Sequence[Sequence[Tokens]]) -> Tensor:
        """As `Generator.score`.

        Candidates are taken one a prompt at a time, so that all of them share the prompt's keys and values, which cost
        far more than a short answer does.
        """
        device = prompts.states.device
        most, longest = max(map(len, candidates)), max(len(tokens) for found in candidates for tokens in found)
        labels = torch.full((len(candidates), most, longest), IGNORED)
        for prompt, found in enumerate(candidates):
            for number, tokens in enumerate(found):
                labels[prompt, number, : len(tokens)] = torch.tensor(tokens)
        labels = labels.to(device)
        scored = torch.zeros(labels.shape, device=device)
        at_once = max(1, _LOGITS_AT_ONCE // (longest * self.backbone.get_output_embeddings().weight.shape[0]))
        most_first = sorted(range(len(candidates)), key=lambda prompt: -len(candidates[prompt]))
        for start in range(0, len(most_first), at_once):
            rows, cache = most_first[start : start + at_once], None
            for number in range(len(candidates[rows[0]])):
                rows = [row for row in rows if len(candidates[row]) > number]
                if cache is not None:
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

    @contextmanager
    def _only_special_tokens(self) -> Iterator[None]:
        """Inside, decoding knows the model's special tokens and nothing else of its generation_config.

        That was written for another task, such as summaries of 56 tokens at least, and transformers takes from it
        whatever a call does not name.
        """
        own = self.backbone.generation_config
        self.backbone.generation_config = GenerationConfig(**{name: getattr(own, name) for name in _SPECIAL_TOKENS})
        try:
            yield
        finally:
            self.backbone.generation_config = own

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
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a")["input_ids"]
    start = next(i for i in range(len(full) - len(bare) + 1) if full[i : i + len(bare)] == bare)
    return PromptTokens(tokenizer, full[:start], full[start + len(bare) :])


def _until_end(tokens: list[int], ends: set[int]) -> Tokens:
    length = next((position + 1 for position, token in enumerate(tokens) if token in ends), len(tokens))
    return tuple(tokens[:length])
