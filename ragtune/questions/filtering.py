"""The questions that are fit to train and evaluate on, and the split of each."""

import contextlib
import hashlib
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ragtune.errors import QuestionError
from ragtune.files import atomic_file
from ragtune.progress import progress, say
from ragtune.questions.gathered import LINKS, Gathered
from ragtune.questions.normalization import normalize_question
from ragtune.questions.nq import AUTO, read_questions
from ragtune.questions.question import REASONS, SHARED, Question, Rejected
from ragtune.questions.splits import check_split_by, drawn, places, split_names
from ragtune.questions.unspaced import length_in_words
from ragtune.settings.pipeline import PARAMETERS
from ragtune.settings.setting import check

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
    split_by: str = "question",
    max_questions: int = 0,
    max_test_questions: int = 0,
    max_rejected_fraction: float = 0.5,
) -> dict[str, int | float]:
    """Keep questions with a short answer, once each, in three splits; write down why each other row was rejected.

    A kept question has all its distinct answers of at most `max_answer_words`, those of its duplicates too. The split
    follows from a hash, of the normalised question or of what `split_by` names, so the same question is in the same
    split in whatever file and order it comes. More questions move none that is split by itself or its title; a group
    of gold passages moves where a new question brings it another passage, whose hash is less, or connects two groups.

    Args:
        questions_uri: what to read; see `ragtune.questions.nq.read_questions`.
        train_path: JSONL to write, one `Question` per line; the same for `validation_path` and `test_path`.
        rejected_path: JSONL to write, one `Rejected` per line, of all sources.
        validation_uri: validation questions of their own; rows for training with one of these are rejected as
            `in_validation`. "" splits `validation_fraction` off `questions_uri`.
        test_uri: test questions of their own; rows for anything else with one of these are rejected as `in_test`. ""
            splits `test_fraction` off `questions_uri`.
        layout: of all sources, or "auto" for each.
        quoting: of CSV and TSV sources, see `ragtune.questions.rows.read_rows`.
        max_answer_words: as white space separates them; see `length_in_words` for scripts that have none there.
        validation_fraction: share of the questions held out for validation where there is no `validation_uri`; 0 means
            none.
        test_fraction: share of the questions held out for testing where there is no `test_uri`; 0 means none.
        split_by: "question"; "title" keeps all questions on a document in one split; "gold" those that are connected by
            gold passages, contexts or long answers in common. A question without any goes by itself.
        max_questions: largest number of questions of `questions_uri` for training and validation, drawn by a hash; 0
            means all. The whole source is read all the same.
        max_test_questions: the same for testing.
        max_rejected_fraction: largest share of a source's rows that may be malformed.

    Returns:
        Counts: `questions_read` (rows), `questions_kept`, `questions_rejected`, `questions_over_limit` (fit, but beyond
        a maximum), `rejected_<reason>` for each of `REASONS`, `train`, `validation`, `test`, `largest_group` (questions
        that `split_by` keeps together), and `test_sharing_title`, `_gold`, `_question`, `validation_sharing_title` …:
        how many held-out questions have theirs in common with a training question; each such question's `overlap`
        says so too.

    Raises:
        ParameterError: a parameter is out of its bounds.
        QuestionError: the splits leave nothing to train on, too many rows are malformed, a split that was asked for is
            empty, or one group of connected questions, most of them, fell to a held-out split.
        StorageError: a source cannot be read or an output not written. No output is written in any of these cases.
    """
    shares = {"test": 0.0 if test_uri else test_fraction, "validation": 0.0 if validation_uri else validation_fraction}
    check_split_by(split_by)
    check(PARAMETERS, {f"{split}_fraction": share for split, share in shares.items()})
    check(PARAMETERS, {"max_rejected_fraction": max_rejected_fraction, "max_answer_words": max_answer_words})
    check_shares(shares)
    with contextlib.ExitStack() as stack:
        paths = {"train": train_path, "validation": validation_path, "test": test_path, "rejected": rejected_path}
        files = {name: stack.enter_context(atomic_file(path)) for name, path in paths.items()}

        def gathered() -> Gathered:
            folder = Path(train_path).parent
            return Gathered(stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", dir=folder)))

        sieve = _Sieve(files["rejected"], layout, quoting, max_answer_words, max_rejected_fraction)
        sources: list[tuple[Gathered, npt.NDArray[np.str_]]] = []
        for uri, split, limit in ((test_uri, "test", max_test_questions), (validation_uri, "validation", 0)):
            if uri:
                held_out = sieve.sift(str(uri), gathered(), split)
                chosen = drawn(held_out.digests(), np.ones(len(held_out), bool), limit)
                sources.append((held_out, np.where(chosen, split, "")))
        rest = sieve.sift(str(questions_uri), gathered())
        groups = rest.links[split_by].groups() if split_by != "question" and any(shares.values()) else {}
        splits = _splits(rest, str(questions_uri), shares, split_by, groups, max_questions, max_test_questions)
        sources.append((rest, splits))
        sieve.counts.update(_write(sources, files))
        sieve.counts["largest_group"] = _largest_group(groups)[1]
        sieve.counts["over_limit"] = sum(int((splits == "").sum()) for _, splits in sources)
    return _metrics(sieve.counts)


def _splits(
    questions: Gathered,
    uri: str,
    shares: dict[str, float],
    split_by: str,
    groups: dict[int, int],
    max_questions: int,
    max_test_questions: int,
) -> npt.NDArray[np.str_]:
    """The split of each question, "" for one that was not drawn."""
    digests = questions.digests()
    if split_by != "question" and any(shares.values()) and not groups:
        wanted = "title" if split_by == "title" else "gold_ids, context or long answer"
        raise QuestionError(f"{uri}: split_by = {split_by}, but no question has a {wanted}; split by question")
    splits = split_names(places(digests, groups), shares)
    if groups:
        _check_widths(splits, uri, shares, split_by, groups)
    test = splits == "test"
    kept = drawn(digests, test, max_test_questions) | drawn(digests, ~test, max_questions)
    splits[~kept] = ""
    for split in ("train", *(split for split, share in shares.items() if share)):
        if not (splits == split).any():
            apart = f", in {len(set(groups.values())):,} groups by {split_by}," if groups else ""
            apart += f" at max_questions = {max_questions:,}" if max_questions and split != "test" else ""
            raise QuestionError(
                f"{uri}: none of its {len(questions):,} usable questions{apart} fell to the {split} split; give more,"
                " or change validation_fraction and test_fraction (0 goes without)"
            )
    return splits


def _check_widths(
    splits: npt.NDArray[np.str_], uri: str, shares: dict[str, float], split_by: str, groups: dict[int, int]
) -> None:
    """Tell where groups make a split far from as wide as asked for; refuse to train on the small rest of a large one.

    Raises:
        QuestionError: more than half of all questions are one group, which is not for training.
    """
    questions = len(splits)
    key, size = _largest_group(groups)
    fell_to = str(splits[next(question for question, own in groups.items() if own == key)])
    if size > questions / 2 and fell_to != "train":
        raise QuestionError(
            f"{uri}: split_by = {split_by} connects {size:,} of {questions:,} questions, and all of them fell to the"
            f" {fell_to} split; split otherwise, or give {fell_to}_questions of their own"
        )
    for split, share in shares.items():
        found = float((splits == split).mean())
        if not share / 2 <= found <= 2 * share:
            say(
                f"{uri}: {found:.2%} of the questions fell to the {split} split, {split}_fraction = {share:g}:"
                f" split_by = {split_by} keeps up to {size:,} of {questions:,} together"
            )


def _largest_group(groups: dict[int, int]) -> tuple[int, int]:
    """Its key, and how many questions are in it; 0 where there is no group."""
    return Counter(groups.values()).most_common(1)[0] if groups else (0, 0)


def _write(sources: list[tuple[Gathered, npt.NDArray[np.str_]]], files: dict[str, IO[Any]]) -> Counter[str]:
    """Write each question to its split's file, the held-out ones with what they share with training."""
    counts: Counter[str] = Counter()
    trained = [(source, splits == "train") for source, splits in sources]
    keys = {name: np.concatenate([source.links[name].keys(chosen) for source, chosen in trained]) for name in LINKS}
    asked = np.concatenate([source.digests()[chosen, 0] for source, chosen in trained])
    for source, splits in sources:
        shared = {name: source.links[name].sharing(keys[name], len(source)) for name in LINKS}
        shared["question"] = np.isin(source.digests()[:, 0], asked)
        for number, question in enumerate(source):
            split = str(splits[number])
            if not split:
                continue
            if split != "train":
                question = replace(question, overlap=tuple(name for name, of in shared.items() if of[number]))
                counts.update(f"{split}_sharing_{name}" for name in question.overlap)
            counts[split] += 1
            files[split].write(question.as_line())
    return counts


class _Sieve:
    """Judges rows one by one; remembers which questions are held out and which ids are given."""

    def __init__(
        self, rejected: IO[str], layout: str, quoting: str, max_answer_words: int, max_rejected_fraction: float
    ):
        self._rejected_file, self._layout, self._quoting = rejected, layout, quoting
        self._max_answer_words, self._max_rejected_fraction = max_answer_words, max_rejected_fraction
        self._held_out: dict[str, Gathered] = {}
        self._ids: set[str] = set()
        self.counts: Counter[str] = Counter()

    def sift(self, uri: str, into: Gathered, held_out: str = "") -> Gathered:
        """Gather the usable questions of a source, one at least, and write its other rows to the rejected ones.

        Args:
            uri: the source.
            into: what to add them to.
            held_out: the split that the source is for alone; no later source may have its questions.
        """
        rejected: Counter[str] = Counter()
        rows = 0
        malformed = ""
        for item in progress(read_questions(uri, self._layout, self._quoting), "filtering", unit="questions"):
            rows += 1
            refused = self._take(item, into) if isinstance(item, Question) else item
            if refused:
                rejected[refused.reason] += 1
                self._rejected_file.write(refused.as_line())
                if refused.reason == "malformed":
                    malformed = malformed or f"{refused.file}:{refused.line}: {refused.detail}"
                    if rejected["malformed"] == rows == _EARLY_ROWS and self._max_rejected_fraction < 1:
                        break
        self.counts.update({"read": rows, **{f"rejected_{reason}": count for reason, count in rejected.items()}})
        if rejected["malformed"] > self._max_rejected_fraction * rows:
            raise QuestionError(
                f"{uri}: {rejected['malformed']:,} of {rows:,} rows are malformed, more than max_rejected_fraction ="
                f" {self._max_rejected_fraction:g} allows. The first: {malformed}. Fix the file or pass its layout"
            )
        if not len(into):
            why = ", ".join(f"{count:,} {reason}" for reason, count in rejected.most_common())
            raise QuestionError(f"{uri}: no usable question ({why}); look at its layout and at max_answer_words")
        if held_out:
            self._held_out[held_out] = into
        return into

    def _take(self, question: Question, into: Gathered) -> Rejected | None:
        """Add a question to the others, or say why not."""
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
        question = replace(question, answers=answers)
        digest = hashlib.blake2b(normalize_question(question.question).encode(), digest_size=16).digest()
        for split, held_out in self._held_out.items():
            if digest in held_out:
                return rejected(f"in_{split}", f"the same question is in the {split} set")
        if digest in into:
            into.merge(digest, question)
            return rejected("duplicate", "the same question came before; it has this one's answers too")
        identifier = question.id if question.id not in self._ids else f"{question.id}-{digest.hex()[:8]}"
        self._ids.add(identifier)
        into.add(digest, replace(question, id=identifier))
        return None


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
        **{
            f"{split}_sharing_{what}": counts[f"{split}_sharing_{what}"]
            for split in ("validation", "test")
            for what in SHARED
        },
        "largest_group": counts["largest_group"],
    }


def check_shares(shares: dict[str, float]) -> None:
    """Raise QuestionError where splits leave nothing to train on."""
    if sum(shares.values()) >= 1:
        raise QuestionError(
            f"validation_fraction + test_fraction = {sum(shares.values()):g}: nothing is left to train on"
        )
