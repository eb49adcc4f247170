"""Warm-up tasks made from passages alone, that only copying solves.

A generator that has to learn both to read and to copy from a thousand questions learns the answers by heart instead. So
it is given tasks in the prompt's own shape, "title / text // task", whose answer is a few words of the text:

- continue: the task is a few words of the text, the answer the ones that follow.
- fill: the task is a sentence with a blank, the answer what stood there.
- find: the task is most other words of a sentence, out of order, among words from elsewhere and often the title, as in
  a question; the answer is a run of words that it leaves out.

In every example names (rare words with a capital or a digit) are exchanged for random names of the same shape (a year
for a year, "Oslo" for "Texas"), the same ones in input and answer; often other words are exchanged too, some or all. So
no fact can be remembered from one example to the next, and what is said must be read. The answer is mostly a whole name
("salient span masking", Guu et al. 2020, https://arxiv.org/abs/2002.08909).
"""

import random
import re
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ragtune.knowledge.passages import Passage
from ragtune.sample.word_tokenizer import BLANK

LONGEST_ANSWER = 4  # words
_ENDS = frozenset(".!?")
_COMMON_SHARE = 0.2  # a word in more passages than that is no name: "The", "It"
_NAME_SHARE = 0.8  # answers that are a whole name
_TITLE_SHARE = 0.8  # tasks to find something that say the title
_OTHER_WORDS = 4  # at most, in a task to find something


class CopyTasks:
    """Batches of warm-up tasks, endless, the same for the same seed.

    Attributes:
        most_sentences: of a text that are shown, at random; 0 shows all as they are. To be set at any time.
    """

    most_sentences = 0

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        passages: Sequence[Passage],
        seed: int = 0,
        shares: Sequence[float] = (1, 1, 3),
        question_first: bool = False,
    ) -> None:
        """Tokenise the passages.

        Args:
            tokenizer: a word-level one, `build_word_tokenizer`.
            passages: those with fewer than two words are left out.
            seed: random seed of all choices.
            shares: how often to continue, fill and find, relative to each other.
            question_first: tasks as a decoder-only model wants them, "task / title / text //", without an end, so that
                the text is read in the light of the task.
        """
        self._chance = random.Random(seed)
        self._numbers = np.random.default_rng(seed)
        self._shares = shares
        self._question_first = question_first
        self._end = tokenizer.eos_token_id
        self._pad = tokenizer.pad_token_id
        self._slash, self._slashes = self._ids(tokenizer, "/"), self._ids(tokenizer, "//")
        self._blank = self._ids(tokenizer, BLANK)
        tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        special = set(tokenizer.all_special_tokens)
        self._words = np.array([number for number, token in enumerate(tokens) if _is_word(token, special)])
        self._is_word = np.isin(np.arange(len(tokens)), self._words)
        counts = np.zeros(len(tokens))
        for passage in passages:
            counts[list(set(self._ids(tokenizer, f"{passage.title} {passage.text}")))] += 1
        rare = counts < _COMMON_SHARE * len(passages)
        self._is_name = (
            self._is_word
            & rare
            & np.array([token.lower() != token or any(map(str.isdigit, token)) for token in tokens])
        )
        shapes = np.array([_shape(token) for token in tokens])
        self._same_shape = {
            shape: np.flatnonzero(self._is_name & (shapes == shape)) for shape in set(shapes[self._is_name])
        }
        self._shapes = shapes
        common = self._is_word & ~self._is_name
        self._common = np.flatnonzero(common if common.any() else self._is_word)
        self._stops = {number for number, token in enumerate(tokens) if token in _ENDS}
        self._pages = [
            (self._ids(tokenizer, passage.title), sentences)
            for passage in passages
            if (sentences := self._sentences(self._ids(tokenizer, passage.text)))
        ]

    def batch(self, size: int) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask` (size, longest input), `labels` (size, longest answer, -100 as padding)."""
        pairs = [self.example() for _ in range(size)]
        inputs, answers = zip(*pairs, strict=True)
        input_ids = _padded(inputs, self._pad)
        lengths = torch.tensor([len(tokens) for tokens in inputs])
        attention_mask = (torch.arange(input_ids.shape[1]) < lengths[:, None]).long()
        return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": _padded(answers, -100)}

    def example(self) -> tuple[list[int], list[int]]:
        """One task: the generator's input and its answer, both with their end, words already exchanged."""
        title, sentences = self._chance.choice(self._pages)
        make = self._chance.choices((self._continue, self._fill, self._find), self._shares)[0]
        if self.most_sentences:
            sentences = self._chance.sample(sentences, min(self.most_sentences, len(sentences)))
        task, answer = make(title, self._chance.choice(sentences))
        text = [token for sentence in sentences for token in sentence]
        page = [*title, *self._slash, *text, *self._slashes]
        if self._question_first:
            return self._exchange([*task, *self._slash, *page], answer)
        prompt, answer = self._exchange([*page, *task], answer)
        return [*prompt, self._end], answer

    def _continue(self, title: list[int], sentence: list[int]) -> tuple[list[int], list[int]]:
        runs = [run for run in self._runs(sentence) if run[0] > 0 and self._ends(sentence, run)]
        first, last = self._chance.choice(runs)
        return sentence[max(0, first - self._chance.randint(1, 4)) : first], sentence[first:last]

    def _fill(self, title: list[int], sentence: list[int]) -> tuple[list[int], list[int]]:
        first, last = self._pick(sentence, self._runs(sentence))
        return sentence[:first] + self._blank + sentence[last:], sentence[first:last]

    def _find(self, title: list[int], sentence: list[int]) -> tuple[list[int], list[int]]:
        first, last = self._pick(sentence, self._runs(sentence))
        others = [token for token in sentence[:first] + sentence[last:] if self._is_word[token]]
        task = self._chance.sample(others, round(self._chance.uniform(0.7, 1) * len(others)))
        task += self._numbers.choice(self._common, self._chance.randint(0, _OTHER_WORDS)).tolist()
        self._chance.shuffle(task)
        if self._chance.random() < _TITLE_SHARE:
            at = self._chance.choice((0, len(task), self._chance.randint(0, len(task))))
            task[at:at] = title
        return task, sentence[first:last]

    def _runs(self, sentence: list[int]) -> list[tuple[int, int]]:
        """All runs of at most LONGEST_ANSWER words, (first, end exclusive), that leave something of the sentence."""
        runs = []
        for first in range(len(sentence)):
            last = first
            while last < len(sentence) and last - first < LONGEST_ANSWER and self._is_word[sentence[last]]:
                last += 1
                runs.append((first, last))
        words = int(self._is_word[sentence].sum())
        return [run for run in runs if run[1] - run[0] < words]

    def _pick(self, sentence: list[int], runs: list[tuple[int, int]]) -> tuple[int, int]:
        """One of the runs; mostly one that is a whole name, where there is one."""
        if self._chance.random() < _NAME_SHARE:
            name = self._is_name[sentence].tolist()
            runs = [
                (first, last)
                for first, last in runs
                if all(name[first:last]) and not any(name[max(0, first - 1) : first]) and not any(name[last : last + 1])
            ] or runs
        return self._chance.choice(runs)

    def _ends(self, sentence: list[int], run: tuple[int, int]) -> bool:
        """Tell whether the run is followed by a punctuation mark or by nothing."""
        return run[1] == len(sentence) or not self._is_word[sentence[run[1]]]

    def _exchange(self, prompt: list[int], answer: list[int]) -> tuple[list[int], list[int]]:
        used = {token for token in prompt + answer if self._is_word[token]}
        share = self._chance.choice((0, 0, 1, self._chance.random()))
        others = sorted(token for token in used if not self._is_name[token] and self._chance.random() < share)
        names = sorted(token for token in used if self._is_name[token])
        kept = used - set(names) - set(others)
        exchanged: dict[int, int] = {}
        for shape in sorted({self._shapes[name] for name in names}):
            alike = [name for name in names if self._shapes[name] == shape]
            drawn = self._numbers.choice(self._same_shape[shape], len(alike), replace=False)
            exchanged |= zip(alike, drawn.tolist(), strict=True)
        free = np.setdiff1d(self._words, [*kept, *exchanged.values()])
        exchanged |= zip(others, self._numbers.choice(free, len(others), replace=False).tolist(), strict=True)
        return (
            [exchanged.get(token, token) for token in prompt],
            [exchanged.get(token, token) for token in answer] + [self._end],
        )

    def _sentences(self, tokens: list[int]) -> list[list[int]]:
        """Sentences with at least two words; a shorter one goes to the one before it, or is left out."""
        sentences: list[list[int]] = [[]]
        for token in tokens:
            sentences[-1].append(token)
            if token in self._stops:
                sentences.append([])
        return [sentence for sentence in sentences if self._is_word[sentence].sum() > 1]

    @staticmethod
    def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]


def _is_word(token: str, special: set[str]) -> bool:
    return token not in special and any(map(str.isalnum, token))


def _shape(token: str) -> str:
    """A word's kinds of characters, runs of letters shortened: "▁Oslo" is "▁Xx", "▁+47" is "▁+00", "▁1959" "▁0000"."""
    kinds = ("0" if c.isdigit() else "X" if c.isupper() else "x" if c.isalpha() else c for c in token)
    return re.sub(r"([Xx])\1+", r"\1", "".join(kinds))


def _padded(rows: Sequence[Sequence[int]], filling: int) -> Tensor:
    padded = torch.full((len(rows), max(map(len, rows))), filling)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = torch.tensor(row)
    return padded
