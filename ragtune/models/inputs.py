"""The generator's inputs: each retrieved passage with the question, put together from tokens made once.

A training run meets the same passages again and again. Their tokens are kept, and a prompt is three lists one after
the other: what stands before the passage, the passage, what stands after it. That gives the same tokens as the whole
string where the tokenizer splits at white space, which is tried out before it is relied on.
"""

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from torch import Tensor

from ragtune.errors import ModelError
from ragtune.knowledge.passages import Passage
from ragtune.models.generators.base import PromptTokens
from ragtune.models.prompt import chat_around
from ragtune.models.rag import RagConfig

_BETWEEN = "\n"  # passages of one prompt
_PASSAGES_TRIED = 8
_QUESTIONS_TRIED = ("who wrote the play?", "When was it founded, in 1837 or later?", "the capital of Côte d'Ivoire is")


class PassageRows(Protocol):
    """Passages by row: `ragtune.knowledge.passages.Passages`, or simply a list."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> Passage: ...

    def __iter__(self) -> Iterator[Passage]: ...


class PromptBuilder:
    """Builds `context_input_ids` for the generator.

    The default prompt is, token for token, what transformers' RagRetriever makes of the same question and passage:
    quotes around a title are dropped, double spaces become one. Where a chat template is used, the prompt is the user's
    message, and the template's text is a part of the pattern.

    Attributes:
        composes: prompts are put together from cached tokens. False where this tokenizer would give other tokens for
            the whole string; then every prompt is tokenised whole, which is slower and otherwise the same.
    """

    def __init__(self, tokens: PromptTokens, passages: PassageRows, config: RagConfig) -> None:
        """Set up for one knowledge base.

        Args:
            tokens: the generator's `prompt_tokens`.
            passages: what the rows of `build` count in.
            config: `prompt`, `chat_template` and `max_input_tokens` are read.

        Raises:
            ModelError: a chat template is asked for where there is none, or fails.
        """
        self._around = _around(tokens, config.chat_template)
        self.tokens = replace(tokens, before=[], behind=[]) if any(self._around) else tokens
        self.tokenizer = tokens.tokenizer
        self.passages = passages
        self.max_tokens = config.max_input_tokens
        self._before, self._middle, self._after = _split_prompt(config.prompt.join(self._around))
        self._cache: dict[int, np.ndarray] = {}
        self.composes = self._try_out()

    def build(self, questions: Sequence[str], rows: np.ndarray | Tensor) -> dict[str, Tensor]:
        """Prompts for every question with each of its passages.

        Where a prompt is longer than `max_input_tokens`, the passage loses its end; the question is never cut.

        Args:
            questions: B questions.
            rows: (B, k) rows of `passages`; -1 is padding and gets the bare question, which the document mask keeps
                out of the loss.

        Returns:
            `input_ids` and `attention_mask`, int64 (B·k, L), L the longest prompt; a question's prompts in a row.
        """
        rows = np.asarray(rows)
        if self.composes:
            self._tokenise_passages(rows)
        before = self._tokens([_fill(self._before, question=question) for question in questions])
        after = self._tokens([_fill(self._after, question=question) for question in questions])
        bare = self._tokens(self._bare(questions))
        prompts = []
        for number, question in enumerate(questions):
            budget = max(0, self._room - len(before[number]) - len(after[number]))
            for row in rows[number].tolist():
                if row < 0:
                    prompts.append(bare[number])
                elif self.composes:
                    prompts.append(before[number] + self._cache[row][:budget].tolist() + after[number])
                else:
                    prompts.append(self._whole(question, self.passages[row]))
        return self.tokens.pad(prompts)

    def build_together(self, questions: Sequence[str], rows: np.ndarray | Tensor) -> dict[str, Tensor]:
        """One prompt for every question, with all of its passages, best first.

        Where a prompt is longer than `max_input_tokens`, the longest passages lose their ends, down to one length. The
        pieces are tokenised apart.

        Args:
            questions, rows: as `build`; padding is left out.

        Returns:
            `input_ids` and `attention_mask`, int64 (B, L).
        """
        rows = np.asarray(rows)
        self._tokenise_passages(rows)
        before = self._tokens([_fill(self._before, question=question) for question in questions])
        after = self._tokens([_fill(self._after, question=question) for question in questions])
        (between,) = self._tokens([_BETWEEN])
        prompts = []
        for number, own in enumerate(rows):
            passages = [self._cache[row].tolist() for row in own[own >= 0].tolist()]
            room = self._room - len(before[number]) - len(after[number]) - len(between) * (len(passages) - 1)
            prompt = list(before[number])
            for place, length in enumerate(_shares([len(passage) for passage in passages], max(0, room))):
                prompt += [*(between if place else []), *passages[place][:length]]
            prompts.append(prompt + after[number])
        return self.tokens.pad(prompts)

    def build_closed_book(self, questions: Sequence[str]) -> dict[str, Tensor]:
        """The bare questions, (B, L): what the closed-book baseline reads."""
        return self.tokens.pad(self._tokens(self._bare(questions)))

    def _bare(self, questions: Sequence[str]) -> list[str]:
        return [question.join(self._around) for question in questions]

    @property
    def _room(self) -> int:
        return self.max_tokens - len(self.tokens.before) - len(self.tokens.behind)

    def _tokenise_passages(self, rows: np.ndarray) -> None:
        new = [row for row in dict.fromkeys(rows.ravel().tolist()) if row >= 0 and row not in self._cache]
        texts = [_fill_passage(self._middle, self.passages[row]) for row in new]
        for row, tokens in zip(new, self._tokens(texts), strict=True):
            self._cache[row] = np.array(tokens[: self.max_tokens], dtype=np.int32)

    def _whole(self, question: str, passage: Passage) -> list[int]:
        """One prompt tokenised as one string, the passage shortened by words until it fits."""
        words = _fill_passage(self._middle, passage).split(" ")
        before, after = _fill(self._before, question=question), _fill(self._after, question=question)
        while True:
            tokens = self._tokens([before + " ".join(words) + after])[0]
            excess = len(tokens) - self._room
            if excess <= 0 or not words:
                return tokens
            words = words[: -max(1, excess // 4)]  # a word is seldom more than four tokens, so seldom too much is cut

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        return self.tokenizer(list(texts), add_special_tokens=False, truncation=False, verbose=False)["input_ids"]

    def _try_out(self) -> bool:
        for row in range(min(_PASSAGES_TRIED, len(self.passages))):
            middle = _fill_passage(self._middle, self.passages[row])
            for question in _QUESTIONS_TRIED:
                pieces = (_fill(self._before, question=question), middle, _fill(self._after, question=question))
                in_pieces = [token for tokens in self._tokens(pieces) for token in tokens]
                if in_pieces != self._tokens(["".join(pieces)])[0]:
                    warnings.warn(
                        f"{type(self.tokenizer).__name__} makes other tokens of a prompt's pieces than of the whole: "
                        "each prompt is tokenised whole, which is slower",
                        stacklevel=3,
                    )
                    return False
        return True


def _around(tokens: PromptTokens, chat_template: str) -> tuple[str, str]:
    if tokens.chats:
        return chat_around(tokens.tokenizer, chat_template) or ("", "")
    if chat_template == "on":
        raise ModelError("chat_template=on: only a decoder-only generator is chatted with; give auto or off")
    return "", ""


def _split_prompt(prompt: str) -> tuple[str, str, str]:
    """The prompt's parts before, of and after the passage; white space at a joint goes to the part behind it."""
    title, text = prompt.index("{title}"), prompt.index("{text}")
    before = prompt[: min(title, text)].rstrip()
    end = max(title + len("{title}"), text + len("{text}"))
    return before, prompt[len(before) : end], prompt[end:]


def _shares(lengths: Sequence[int], room: int) -> list[int]:
    """Tokens of each passage that fit into `room` together: the longest are cut first, to one length."""
    shares, left = list(lengths), room
    by_length = sorted(range(len(lengths)), key=lambda place: lengths[place])
    for done, place in enumerate(by_length):
        shares[place] = min(lengths[place], left // (len(lengths) - done))
        left -= shares[place]
    return shares


def _fill(template: str, **fields: str) -> str:
    filled = re.sub(r"\{(title|text|question)\}", lambda match: fields[match[1]].strip(), template)
    return filled.replace("  ", " ")


def _fill_passage(template: str, passage: Passage) -> str:
    return _fill(template, title=passage.title.removeprefix('"').removesuffix('"'), text=passage.text)
