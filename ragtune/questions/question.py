"""A question that is kept, a row that is not, and the files in which they lie."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ragtune.errors import QuestionError
from ragtune.questions.rows import read_rows

SHARED = ("title", "gold", "question")  # what a held-out question may have in common with a training question
REASONS = ("malformed", "yes_no", "long_only", "empty", "over_long", "duplicate", "in_validation", "in_test")


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its reference answers.

    Attributes:
        id: unique among the questions of a file.
        question: as it was asked.
        answers: distinct short answers of all annotators, at least one; the first is what a generator learns.
        gold_ids: ids of the passages known to answer it; () where unknown.
        title: of the document that answers it; "" where unknown.
        source: `file:line` that it was read from.
        paragraphs: `text_id` of what it was asked about, such as SQuAD's context or the long answers; () where unknown.
        overlap: of a held-out question, those of `SHARED` that a training question has too.
    """

    id: str
    question: str
    answers: tuple[str, ...]
    gold_ids: tuple[str, ...] = ()
    title: str = ""
    source: str = ""
    paragraphs: tuple[str, ...] = ()
    overlap: tuple[str, ...] = ()

    def as_line(self) -> str:
        """One line of JSON, with its line feed."""
        flat = {field: getattr(self, field) for field in self.__slots__}  # asdict copies deeply, ten times as long
        return json.dumps(flat, ensure_ascii=False) + "\n"


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that gives no question.

    Attributes:
        file: what it was read from.
        line: from 1; the row's number in Parquet and Hugging Face datasets; in SQuAD's JSON, the article's line.
        reason: one of `REASONS`.
        detail: what exactly is wrong, for a reader.
        question: its question; "" where none could be read.
    """

    file: str
    line: int
    reason: str
    detail: str
    question: str = ""

    def as_line(self) -> str:
        """One line of JSON, with its line feed; half characters, which UTF-8 cannot hold, become question marks."""
        return json.dumps(asdict(self), ensure_ascii=False).encode("utf-8", "replace").decode("utf-8") + "\n"


def read_kept_questions(path: str | Path) -> Iterator[Question]:
    """Read back what `filter_questions` or `split_by_answerability` wrote, as a stream.

    Raises:
        StorageError: nothing is there, or it may not be read.
        QuestionError: a row is not what those functions write.
    """
    for row in read_rows(path):
        value = row.value
        try:
            if row.problem:
                raise ValueError(row.problem)
            if not value["answers"] or not all(isinstance(answer, str) for answer in value["answers"]):
                raise ValueError('"answers" must be a list of texts')
            yield Question(
                value["id"],
                value["question"],
                tuple(value["answers"]),
                tuple(dict.fromkeys(value.get("gold_ids") or ())),
                value.get("title") or "",
                value.get("source") or f"{row.file}:{row.line}",
                tuple(value.get("paragraphs") or ()),
                tuple(value.get("overlap") or ()),
            )
        except (KeyError, TypeError, ValueError) as error:
            what = f'no "{error.args[0]}"' if isinstance(error, KeyError) else str(error)
            raise QuestionError(
                f"{row.file}:{row.line}: {what}; kept questions are needed here, as filter_questions writes them"
            ) from error
