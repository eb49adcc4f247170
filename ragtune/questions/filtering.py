"""Which questions are fit to train and evaluate on, and in which split each of them belongs."""

import contextlib
import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from ragtune.errors import QuestionError
from ragtune.files import atomic_file
from ragtune.progress import progress
from ragtune.questions.normalization import normalize_question
from ragtune.questions.nq import AUTO, read_questions
from ragtune.questions.question import REASONS, Question, Rejected

_EARLY_ROWS = 1000  # if not one of so many can be read, nobody wants to wait for the rest


def filter_questions(
    questions_uri: str | Path,
    train_path: str | Path,
    validation_path: str | Path,
    test_path: str | Path,
    rejected_path: str | Path,
    *,
    test_uri: str | Path = "",
    layout: str = AUTO,
    max_answer_tokens: int = 5,
    validation_fraction: float = 0.05,
    test_fraction: float = 0.1,
    max_questions: int = 0,
    max_test_questions: int = 0,
    max_rejected_fraction: float = 0.5,
) -> dict[str, int | float]:
    """Keep questions with a short answer, once each, in three splits; write down why each other row was rejected.

    A kept question has all its distinct answers of at most `max_answer_tokens`. The split follows from a hash of the
    normalised question, so the same question is in the same split in whatever file and order it comes.

    Args:
        questions_uri: what to read; see `ragtune.questions.nq.read_questions`.
        train_path: JSONL to write, a `Question` a line; the same for `validation_path` and `test_path`.
        rejected_path: JSONL to write, a `Rejected` a line, of both sources.
        test_uri: test questions of their own; train rows with one of these are rejected as `in_test`. "" splits
            `test_fraction` off `questions_uri`.
        layout: of both sources, or "auto".
        max_answer_tokens: words, as white space separates them.
        validation_fraction: of the questions in `questions_uri`; 0 for none.
        test_fraction: the same, where there is no `test_uri`.
        max_questions: the first so many for training and validation together, 0 for all. Reading stops there, or where
            the test split has its `max_test_questions`, if that is later.
        max_test_questions: the first so many for testing, 0 for all that were read.
        max_rejected_fraction: of the rows read from a source, so many may be malformed.

    Returns:
        Counts: `questions_read` (rows), `questions_kept`, `questions_rejected`, `questions_over_limit` (fit, but beyond
        a maximum), `rejected_<reason>` for each of `REASONS`, `train`, `validation`, `test`.

    Raises:
        QuestionError: a parameter makes no sense, too many rows are malformed, or a split that was asked for is empty.
        StorageError: a source cannot be read or an output not written. No output is written in any of these cases.
    """
    _check(validation_fraction, 0.0 if test_uri else test_fraction, max_rejected_fraction, max_answer_tokens)
    with contextlib.ExitStack() as stack:
        paths = {"train": train_path, "validation": validation_path, "test": test_path, "rejected": rejected_path}
        files = {name: stack.enter_context(atomic_file(path)) for name, path in paths.items()}
        sieve = _Sieve(files, layout, max_answer_tokens, max_rejected_fraction)
        if test_uri:
            sieve.sift_tests(str(test_uri), max_test_questions)
            shares = {"validation": validation_fraction}
            limits = {"train": max_questions}
        else:
            shares = {"test": test_fraction, "validation": validation_fraction}
            limits = {"train": max_questions, "test": max_test_questions if test_fraction else 0}
        sieve.sift(str(questions_uri), shares, limits)
        _check_splits(sieve.counts, str(questions_uri), str(test_uri), shares)
    return _metrics(sieve.counts)


class _Sieve:
    """What has been seen so far, and the files that everything goes to."""

    def __init__(self, files: dict[str, IO[Any]], layout: str, max_answer_tokens: int, max_rejected_fraction: float):
        self._files, self._layout = files, layout
        self._max_answer_tokens, self._max_rejected_fraction = max_answer_tokens, max_rejected_fraction
        self._seen: set[bytes] = set()
        self._tests: set[bytes] = set()
        self._ids: set[str] = set()
        self.counts: Counter[str] = Counter()

    def sift_tests(self, uri: str, limit: int) -> None:
        """Read a source that is for testing alone."""
        self.sift(uri, {"test": 1.0}, {"test": limit})
        self._tests, self._seen = self._seen, set()

    def sift(self, uri: str, shares: dict[str, float], limits: dict[str, int]) -> None:
        """Sort the rows of a source into files.

        Args:
            uri: the source.
            shares: split → its fraction; what is left over is for training.
            limits: split → how many at most, 0 for all; "train" counts validation too. The first one, if not 0, ends
                the reading once all are reached.
        """
        kept: Counter[str] = Counter()
        rows = malformed = 0
        example = ""
        for item in progress(read_questions(uri, self._layout), "filtering", unit="questions"):
            rows += 1
            if isinstance(item, Question):
                digest = hashlib.blake2b(normalize_question(item.question).encode(), digest_size=16).digest()
                item = self._judge(item, digest)
            if isinstance(item, Rejected):
                self.counts[f"rejected_{item.reason}"] += 1
                self._files["rejected"].write(item.as_line())
                if item.reason == "malformed":
                    malformed += 1
                    example = example or f"{item.file}:{item.line}: {item.detail}"
                    if malformed == rows == _EARLY_ROWS and self._max_rejected_fraction < 1:
                        break
                continue
            split = _split(digest, shares)
            counted = "test" if split == "test" else "train"
            if limits[counted] and kept[counted] >= limits[counted]:
                self.counts["over_limit"] += 1
                continue
            kept[counted] += 1
            self.counts[split] += 1
            self._files[split].write(item.as_line())
            if next(iter(limits.values())) and all(kept[name] >= limit for name, limit in limits.items()):
                break
        self.counts["read"] += rows
        if malformed > self._max_rejected_fraction * rows:
            raise QuestionError(
                f"{uri}: {malformed:,} of {rows:,} rows are malformed, more than max_rejected_fraction ="
                f" {self._max_rejected_fraction:g} allows. The first: {example}. Mend the file or pass its layout"
            )

    def _judge(self, question: Question, digest: bytes) -> Question | Rejected:
        file, _, line = question.source.rpartition(":")

        def rejected(reason: str, detail: str) -> Rejected:
            return Rejected(file, int(line), reason, detail, question.question)

        lengths = [len(answer.split()) for answer in question.answers]
        answers = tuple(
            answer
            for answer, length in zip(question.answers, lengths, strict=True)
            if length <= self._max_answer_tokens
        )
        if not answers:
            longest = self._max_answer_tokens
            return rejected("over_long", f"its shortest answer has {min(lengths):,} words, {longest:,} are allowed")
        if digest in self._tests:
            return rejected("in_test", "the same question is in the test set")
        if digest in self._seen:
            return rejected("duplicate", "the same question came before")
        self._seen.add(digest)
        identifier = question.id if question.id not in self._ids else f"{question.id}-{digest.hex()[:8]}"
        self._ids.add(identifier)
        return replace(question, id=identifier, answers=answers)


def _split(digest: bytes, shares: dict[str, float]) -> str:
    place = int.from_bytes(digest[:8]) / 2**64
    for split, share in shares.items():
        if place < share:
            return split
        place -= share
    return "train"


def _metrics(counts: Counter[str]) -> dict[str, int | float]:
    splits = {split: counts[split] for split in ("train", "validation", "test")}
    rejected = {f"rejected_{reason}": counts[f"rejected_{reason}"] for reason in REASONS}
    return {
        "questions_read": counts["read"],
        "questions_kept": sum(splits.values()),
        "questions_rejected": sum(rejected.values()),
        "questions_over_limit": counts["over_limit"],
        **rejected,
        **splits,
    }


def _check(
    validation_fraction: float, test_fraction: float, max_rejected_fraction: float, max_answer_tokens: int
) -> None:
    for name, fraction in (("validation_fraction", validation_fraction), ("test_fraction", test_fraction)):
        if not 0 <= fraction < 1:
            raise QuestionError(f"{name} = {fraction:g}: must be at least 0 and below 1")
    if validation_fraction + test_fraction >= 1:
        raise QuestionError(
            f"validation_fraction + test_fraction = {validation_fraction + test_fraction:g}:"
            " nothing is left to train on"
        )
    if not 0 <= max_rejected_fraction <= 1:
        raise QuestionError(f"max_rejected_fraction = {max_rejected_fraction:g}: must be between 0 and 1")
    if max_answer_tokens < 1:
        raise QuestionError(f"max_answer_tokens = {max_answer_tokens}: must be at least 1")


def _check_splits(counts: Counter[str], uri: str, test_uri: str, shares: dict[str, float]) -> None:
    kept = _metrics(counts)["questions_kept"]
    why = ", ".join(f"{counts[key]:,} {key.removeprefix('rejected_')}" for key in sorted(counts) if "_" in key)
    if test_uri and not counts["test"]:
        raise QuestionError(f"{test_uri}: no usable test question ({why}); look at its layout and max_answer_tokens")
    if not kept - counts["test"] and (test_uri or not kept):
        raise QuestionError(f"{uri}: no usable question ({why}); look at the layout and max_answer_tokens")
    for split in ("train", *(name for name, share in shares.items() if share > 0)):
        if not counts[split]:
            raise QuestionError(
                f"{uri}: none of its {kept:,} usable questions fell to the {split} split; give more questions,"
                f" or change validation_fraction and test_fraction (0 goes without)"
            )
