"""Questions and answers as tokens of the two tokenizers: the question encoder's and the generator's."""

import json
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets

from ragtune.errors import QuestionError
from ragtune.files import atomic_path
from ragtune.progress import progress
from ragtune.questions.question import Question, Rejected, read_kept_questions
from ragtune.questions.tokenizer import tokenizer_fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKENIZATION_FILE = "tokenization.json"
REJECTED_FILE = "rejected.jsonl"
FEATURES = datasets.Features(
    {
        "id": datasets.Value("string"),
        "question": datasets.Value("string"),
        "answers": datasets.List(datasets.Value("string")),
        "gold_ids": datasets.List(datasets.Value("string")),
        "question_input_ids": datasets.List(datasets.Value("int32")),
        "question_attention_mask": datasets.List(datasets.Value("int8")),
        "labels": datasets.List(datasets.Value("int32")),
    }
)

_BATCH = 1000
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_REASONS = ("question_lost", "answer_empty", "answer_lost")


def tokenize_pairs(
    train_path: str | Path,
    validation_path: str | Path,
    question_tokenizer: "PreTrainedTokenizerBase",
    generator_tokenizer: "PreTrainedTokenizerBase",
    folder: str | Path,
    max_question_tokens: int = 32,
    max_answer_tokens: int = 32,
    max_rejected_fraction: float = 0.1,
    question_prompt: str = "",
    decoder_only: bool = False,
) -> dict[str, int]:
    """Tokenise every question for the encoder and its first answer for the generator, and check that nothing was lost.

    The folder becomes a `datasets.DatasetDict` of `train` and `validation` with the columns of `FEATURES`, nothing
    padded; `labels` end in the generator's only EOS token. Beside them lie `tokenization.json` (fingerprints of both
    tokenizers, lengths, counts) and `rejected.jsonl`: rows whose tokens, decoded, are not the text that went in (case,
    accents, white space and ASCII punctuation do not count), because the tokenizer knows no tokens for it.

    Args:
        train_path: JSONL of kept questions; `validation_path` too, which may hold none.
        question_tokenizer: the question encoder's.
        generator_tokenizer: the generator's; its EOS is `eos_token`, or `sep_token` where it has none.
        folder: to write, whole or not at all.
        max_question_tokens: longer questions are cut, and counted.
        max_answer_tokens: longer answers are cut before their EOS, and counted.
        max_rejected_fraction: of all rows; more is an error.
        question_prompt: put before every question, as some encoders want it; see `ragtune.hub.load_prompt`.
        decoder_only: the answer goes on where the prompt ends, without the tokens that begin a text, such as <s>.

    Returns:
        Counts: `train`, `validation` (rows), `questions_truncated`, `answers_truncated`, `rejected_question_lost`,
        `rejected_answer_empty`, `rejected_answer_lost`.

    Raises:
        QuestionError: no training question is left, too many rows are rejected, or the generator's tokenizer lacks EOS.
        StorageError: the questions cannot be read, or the folder not written.
    """
    if min(max_question_tokens, max_answer_tokens) < 4:
        raise QuestionError(
            f"max_question_tokens = {max_question_tokens}, max_answer_tokens = {max_answer_tokens}:"
            " both must be at least 4, of which two may be special tokens"
        )
    lengths = (max_question_tokens, max_answer_tokens)
    pairs = _Pairs(question_tokenizer, generator_tokenizer, *lengths, question_prompt, decoder_only)
    with atomic_path(folder) as temporary:
        splits = datasets.DatasetDict(
            {"train": pairs.tokenize(train_path), "validation": pairs.tokenize(validation_path)}
        )
        pairs.check_rejected(max_rejected_fraction)
        if not len(splits["train"]):
            raise QuestionError(f"{train_path}: no question to train on; filter_questions writes them")
        # datasets writes no file for an empty split, and then cannot load the folder
        splits.save_to_disk(temporary, num_shards={name: None if len(split) else 1 for name, split in splits.items()})
        counts = {name: len(split) for name, split in splits.items()} | pairs.counts()
        description = {
            "question_tokenizer": tokenizer_fingerprint(question_tokenizer),
            "generator_tokenizer": tokenizer_fingerprint(generator_tokenizer),
            "max_question_tokens": max_question_tokens,
            "max_answer_tokens": max_answer_tokens,
            "question_prompt": question_prompt,
            "decoder_only": decoder_only,
            "counts": counts,
        }
        (temporary / TOKENIZATION_FILE).write_text(json.dumps(description, indent=2) + "\n", "utf-8")
        (temporary / REJECTED_FILE).write_text("".join(row.as_line() for row in pairs.rejected), "utf-8")
    return counts


class _Pairs:
    """The two tokenizers, and what has happened to the rows so far."""

    def __init__(
        self,
        question_tokenizer: "PreTrainedTokenizerBase",
        generator_tokenizer: "PreTrainedTokenizerBase",
        max_question_tokens: int,
        max_answer_tokens: int,
        question_prompt: str,
        decoder_only: bool,
    ):
        self._question_tokenizer, self._generator_tokenizer = question_tokenizer, generator_tokenizer
        self._max_question_tokens, self._max_answer_tokens = max_question_tokens, max_answer_tokens
        self._prompt, self._begins = question_prompt, not decoder_only
        self._eos = generator_tokenizer.eos_token_id
        if self._eos is None:
            self._eos = generator_tokenizer.sep_token_id
        if self._eos is None:
            raise QuestionError(
                f"{_name(generator_tokenizer)}: has neither eos_token nor sep_token, so answers cannot end;"
                " set its eos_token"
            )
        self._rows = 0
        self._truncated: Counter[str] = Counter()
        self.rejected: list[Rejected] = []

    def tokenize(self, path: str | Path) -> datasets.Dataset:
        questions = progress(read_kept_questions(path), "tokenizing", unit="questions")
        columns: dict[str, list[Any]] = {name: [] for name in FEATURES}
        while batch := list(islice(questions, _BATCH)):
            self._rows += len(batch)
            for row in self._batch(batch):
                for name, column in columns.items():
                    column.append(row[name])
        return datasets.Dataset.from_dict(columns, FEATURES)

    def _batch(self, batch: Sequence[Question]) -> list[dict[str, Any]]:
        encoded = self._question_tokenizer(
            [self._prompt + question.question for question in batch],
            truncation=True,
            max_length=self._max_question_tokens,
        )
        targets = self._generator_tokenizer(
            text_target=[question.answers[0] for question in batch],
            truncation=True,
            max_length=self._max_answer_tokens,
            add_special_tokens=self._begins,
        )
        labels = [self._ended(ids) for ids in targets["input_ids"]]
        asked = self._decoded(self._question_tokenizer, encoded["input_ids"])
        answered = self._decoded(self._generator_tokenizer, labels)
        return [
            {
                "id": question.id,
                "question": question.question,
                "answers": list(question.answers),
                "gold_ids": list(question.gold_ids),
                "question_input_ids": encoded["input_ids"][index],
                "question_attention_mask": encoded["attention_mask"][index],
                "labels": labels[index],
            }
            for index, question in enumerate(batch)
            if self._is_whole(question, encoded["input_ids"][index], asked[index], labels[index], answered[index])
        ]

    def _ended(self, ids: list[int]) -> list[int]:
        return ids if ids and ids[-1] == self._eos else [*ids[: self._max_answer_tokens - 1], self._eos]

    @staticmethod
    def _decoded(tokenizer: "PreTrainedTokenizerBase", ids: list[list[int]]) -> list[str]:
        return tokenizer.batch_decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def _is_whole(
        self, question: Question, question_ids: list[int], asked: str, labels: list[int], answered: str
    ) -> bool:
        cut_question = len(question_ids) >= self._max_question_tokens
        cut_answer = len(labels) >= self._max_answer_tokens
        asking, answer = self._prompt + question.question, question.answers[0]
        if not answered.strip():
            return self._reject(question, "answer_empty", f'no token of "{answer}" is known')
        if labels[1:].count(self._eos) != 1 or not _same(answer, answered, cut_answer):
            return self._reject(question, "answer_lost", f'"{answer}" comes back as "{answered}"')
        if not _same(asking, asked, cut_question):
            return self._reject(question, "question_lost", f'"{asking}" comes back as "{asked}"')
        self._truncated["questions"] += cut_question and not _same(asking, asked, False)
        self._truncated["answers"] += cut_answer and not _same(answer, answered, False)
        return True

    def _reject(self, question: Question, reason: str, detail: str) -> bool:
        file, _, line = question.source.rpartition(":")
        number = int(line) if line.isdecimal() else 0
        self.rejected.append(Rejected(file, number, reason, detail, question.question))
        return False

    def counts(self) -> dict[str, int]:
        reasons = Counter(row.reason for row in self.rejected)
        return {
            "questions_truncated": self._truncated["questions"],
            "answers_truncated": self._truncated["answers"],
            **{f"rejected_{reason}": reasons[reason] for reason in _REASONS},
        }

    def check_rejected(self, max_rejected_fraction: float) -> None:
        if len(self.rejected) <= max_rejected_fraction * self._rows:
            return
        worst = Counter(row.reason for row in self.rejected).most_common(1)[0][0]
        example = next(row for row in self.rejected if row.reason == worst)
        tokenizer = self._question_tokenizer if worst == "question_lost" else self._generator_tokenizer
        raise QuestionError(
            f"{_name(tokenizer)}: loses the text of {len(self.rejected):,} of {self._rows:,} rows, more than"
            f" max_rejected_fraction = {max_rejected_fraction:g} allows; for instance {example.file}:{example.line}:"
            f" {example.detail}. Is it the tokenizer of this model, and made for this language?"
        )


def _same(text: str, decoded: str, cut: bool) -> bool:
    text, decoded = _canonical(text), _canonical(decoded)
    return text.startswith(decoded) and decoded != "" if cut else text == decoded


def _canonical(text: str) -> str:
    """Without what a tokenizer is free to change: as for EM, and accents, control characters, compatibility forms."""
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold()).translate(_PUNCTUATION)
    return "".join(letter for letter in folded if unicodedata.category(letter)[0] not in "MZC" and letter != "\ufffd")


def _name(tokenizer: "PreTrainedTokenizerBase") -> str:
    return f"tokenizer {tokenizer.name_or_path}" if tokenizer.name_or_path else type(tokenizer).__name__
