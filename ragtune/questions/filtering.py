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
from ragtune.questions.unspaced import length_in_words

_EARLY_ROWS = 1000  # if not one of so many can be read, nobody wants to wait for the rest


def filter_questions(
    questions_uri: str | Path,
    train_path: str | Path,
    validation_path: str | Path,
    test_path: str | Path,
    rejected_path: str | Path,
    *,
    validation_uri: str | Path = "",
    test_uri: str | Path = "",
    layout: str = AUTO,
    quoting: str = "auto",
    max_answer_words: int = 5,
    validation_fraction: float = 0.05,
    test_fraction: float = 0.1,
    max_questions: int = 0,
    max_test_questions: int = 0,
    max_rejected_fraction: float = 0.5,
) -> dict[str, int | float]:
    """Keep questions with a short answer, once each, in three splits; write down why each other row was rejected.

    A kept question has all its distinct answers of at most `max_answer_words`. The split follows from a hash of the
    normalised question, so the same question is in the same split in whatever file and order it comes.

    Args:
        questions_uri: what to read; see `ragtune.questions.nq.read_questions`.
        train_path: JSONL to write, a `Question` a line; the same for `validation_path` and `test_path`.
        rejected_path: JSONL to write, a `Rejected` a line, of all sources.
        validation_uri: validation questions of their own; rows for training with one of these are rejected as
            `in_validation`. "" splits `validation_fraction` off `questions_uri`.
        test_uri: test questions of their own; rows for anything else with one of these are rejected as `in_test`. ""
            splits `test_fraction` off `questions_uri`.
        layout: of all sources, or "auto" for each.
        quoting: of CSV and TSV sources, see `ragtune.questions.rows.read_rows`.
        max_answer_words: as white space separates them; see `length_in_words` for scripts that have none there.
        validation_fraction: where there is no `validation_uri`; 0 for none.
        test_fraction: where there is no `test_uri`; 0 for none.
        max_questions: the first so many of `questions_uri` for training and validation, 0 for all. Reading stops there,
            or where the test split has its `max_test_questions`, if that is later.
        max_test_questions: the first so many for testing, 0 for all that were read.
        max_rejected_fraction: of the rows read from a source, so many may be malformed.

    Returns:
        Counts: `questions_read` (rows), `questions_kept`, `questions_rejected`, `questions_over_limit` (fit, but beyond
        a maximum), `rejected_<reason>` for each of `REASONS`, `train`, `validation`, `test`.

    Raises:
        QuestionError: a parameter makes no sense, too many rows are malformed, or a split that was asked for is empty.
        StorageError: a source cannot be read or an output not written. No output is written in any of these cases.
    """
    shares = {"test": 0.0 if test_uri else test_fraction, "validation": 0.0 if validation_uri else validation_fraction}
    _check(shares, max_rejected_fraction, max_answer_words)
    with contextlib.ExitStack() as stack:
        paths = {"train": train_path, "validation": validation_path, "test": test_path, "rejected": rejected_path}
        files = {name: stack.enter_context(atomic_file(path)) for name, path in paths.items()}
        sieve = _Sieve(files, layout, quoting, max_answer_words, max_rejected_fraction)
        if test_uri:
            sieve.sift_held_out(str(test_uri), "test", max_test_questions)
        if validation_uri:
            sieve.sift_held_out(str(validation_uri), "validation", 0)
        limits = {"train": max_questions, "test": max_test_questions if shares["test"] else 0}
        kept = sieve.sift(str(questions_uri), shares, limits)
        for split in ("train", *(split for split, share in shares.items() if share)):
            if not sieve.counts[split]:
                raise QuestionError(
                    f"{questions_uri}: none of its {kept:,} usable questions fell to the {split} split; give more, or"
                    " change validation_fraction and test_fraction (0 goes without)"
                )
    return _metrics(sieve.counts)


class _Sieve:
    """What has been seen so far, and the files that everything goes to."""

    def __init__(
        self, files: dict[str, IO[Any]], layout: str, quoting: str, max_answer_words: int, max_rejected_fraction: float
    ):
        self._files, self._layout, self._quoting = files, layout, quoting
        self._max_answer_words, self._max_rejected_fraction = max_answer_words, max_rejected_fraction
        self._seen: set[bytes] = set()
        self._held_out: dict[bytes, str] = {}
        self._ids: set[str] = set()
        self.counts: Counter[str] = Counter()

    def sift_held_out(self, uri: str, split: str, limit: int) -> None:
        """Read a source that is for one split alone, whose questions no later source may have."""
        self.sift(uri, {split: 1.0}, {_counted(split): limit})
        self._held_out |= dict.fromkeys(self._seen, split)
        self._seen.clear()

    def sift(self, uri: str, shares: dict[str, float], limits: dict[str, int]) -> int:
        """Sort the rows of a source into files.

        Args:
            uri: the source.
            shares: split → its fraction; what is left over is for training.
            limits: split → how many at most, 0 for all; "train" counts validation too. The first one, if not 0, ends
                the reading once all are reached.

        Returns:
            How many it kept, one at least.
        """
        kept: Counter[str] = Counter()
        rejected: Counter[str] = Counter()
        rows = 0
        malformed = ""
        for item in progress(read_questions(uri, self._layout, self._quoting), "filtering", unit="questions"):
            rows += 1
            if isinstance(item, Question):
                digest = hashlib.blake2b(normalize_question(item.question).encode(), digest_size=16).digest()
                item = self._judge(item, digest)
            if isinstance(item, Rejected):
                rejected[item.reason] += 1
                self._files["rejected"].write(item.as_line())
                if item.reason == "malformed":
                    malformed = malformed or f"{item.file}:{item.line}: {item.detail}"
                    if rejected["malformed"] == rows == _EARLY_ROWS and self._max_rejected_fraction < 1:
                        break
                continue
            split = _split(digest, shares)
            counted = _counted(split)
            if limits[counted] and kept[counted] >= limits[counted]:
                self.counts["over_limit"] += 1
                continue
            kept[counted] += 1
            self.counts[split] += 1
            self._files[split].write(item.as_line())
            if next(iter(limits.values())) and all(kept[name] >= limit for name, limit in limits.items()):
                break
        self.counts.update({"read": rows, **{f"rejected_{reason}": count for reason, count in rejected.items()}})
        if rejected["malformed"] > self._max_rejected_fraction * rows:
            raise QuestionError(
                f"{uri}: {rejected['malformed']:,} of {rows:,} rows are malformed, more than max_rejected_fraction ="
                f" {self._max_rejected_fraction:g} allows. The first: {malformed}. Mend the file or pass its layout"
            )
        if not kept:
            why = ", ".join(f"{count:,} {reason}" for reason, count in rejected.most_common())
            raise QuestionError(f"{uri}: no usable question ({why}); look at its layout and at max_answer_words")
        return kept.total()

    def _judge(self, question: Question, digest: bytes) -> Question | Rejected:
        file, _, line = question.source.rpartition(":")

        def rejected(reason: str, detail: str) -> Rejected:
            return Rejected(file, int(line), reason, detail, question.question)

        lengths = [length_in_words(answer) for answer in question.answers]
        answers = tuple(
            answer for answer, length in zip(question.answers, lengths, strict=True) if length <= self._max_answer_words
        )
        if not answers:
            longest = self._max_answer_words
            return rejected("over_long", f"its shortest answer has {min(lengths):,} words, {longest:,} are allowed")
        if split := self._held_out.get(digest):
            return rejected(f"in_{split}", f"the same question is in the {split} set")
        if digest in self._seen:
            return rejected("duplicate", "the same question came before")
        self._seen.add(digest)
        identifier = question.id if question.id not in self._ids else f"{question.id}-{digest.hex()[:8]}"
        self._ids.add(identifier)
        return replace(question, id=identifier, answers=answers)


def _counted(split: str) -> str:
    """Under whose limit a split falls."""
    return "test" if split == "test" else "train"


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


def _check(shares: dict[str, float], max_rejected_fraction: float, max_answer_words: int) -> None:
    for split, share in shares.items():
        if not 0 <= share < 1:
            raise QuestionError(f"{split}_fraction = {share:g}: must be at least 0 and below 1")
    if sum(shares.values()) >= 1:
        raise QuestionError(
            f"validation_fraction + test_fraction = {sum(shares.values()):g}: nothing is left to train on"
        )
    if not 0 <= max_rejected_fraction <= 1:
        raise QuestionError(f"max_rejected_fraction = {max_rejected_fraction:g}: must be between 0 and 1")
    if max_answer_words < 1:
        raise QuestionError(f"max_answer_words = {max_answer_words}: must be at least 1")
