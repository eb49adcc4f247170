"""Questions and answers from any layout of Natural Questions, from SQuAD and from plain tables, as a stream."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from ragtune.errors import QuestionError
from ragtune.questions.cleaning import text_id
from ragtune.questions.layouts import LAYOUTS, Layout, MalformedError, Reading, layout_of
from ragtune.questions.layouts import Row as Columns
from ragtune.questions.normalization import distinct_answers, normalize_question
from ragtune.questions.question import Question, Rejected
from ragtune.questions.rows import Row, read_rows

AUTO = "auto"

_UNUSED = ("document.html", "document_html", "long_answer_candidates")
_ROWS_TO_RECOGNISE = 100


def read_questions(uri: str | Path, layout: str = AUTO, quoting: str = "auto") -> Iterator[Question | Rejected]:
    """Read questions one by one; a row that gives none comes as a Rejected in its place.

    Args:
        uri: a local path or fsspec URI, plain or gzip, a folder or glob of such files, or `hf://…`; see `read_rows`.
        layout: one of `LAYOUTS`, or "auto": what the first row looks like.
        quoting: of CSV and TSV, see `read_rows`.

    Yields:
        Questions with all their distinct short answers, however long; rejected rows with the reason malformed, yes_no,
        long_only or empty.

    Raises:
        StorageError: see `read_rows`.
        QuestionError: the layout is unknown, or there is not a single row.
    """
    check_layout(layout)
    return _questions(str(uri), layout, quoting)


def check_layout(layout: str) -> None:
    """Raise QuestionError if there is no such layout."""
    if layout not in (AUTO, *LAYOUTS):
        raise QuestionError(f'no layout "{layout}"; there are {AUTO}, {", ".join(LAYOUTS)}')


def _questions(uri: str, layout: str, quoting: str) -> Iterator[Question | Rejected]:
    found = LAYOUTS.get(layout)
    rows = strangers = 0
    for row in read_rows(uri, _UNUSED, quoting):
        rows += 1
        if row.problem:
            yield Rejected(row.file, row.line, "malformed", row.problem)
            continue
        if found is None:
            found = LAYOUTS.get(layout_of(row.value))
        if found is not None:
            yield from _row_questions(row, found)
            continue
        strangers += 1
        yield Rejected(row.file, row.line, "malformed", f"is in no known layout: {_columns(row.value)}")
        if strangers == _ROWS_TO_RECOGNISE:
            break
    if not rows:
        raise QuestionError(f"{uri}: is empty; questions are needed")
    if found is None and strangers:
        known = "; ".join(f"{name}: {described.fields}" for name, described in LAYOUTS.items())
        raise QuestionError(
            f"{uri}: the first {strangers:,} rows are in no known layout, the last has {_columns(row.value)}."
            f" Rename its columns, or pass the layout. Known are {known}"
        )


def _row_questions(row: Row, layout: Layout) -> Iterator[Question | Rejected]:
    try:
        for columns in layout.rows(row.value):
            yield _question(row, columns, layout)
    except MalformedError as error:
        yield _malformed(row, row.value, layout, error)


def _question(row: Row, columns: Columns, layout: Layout) -> Question | Rejected:
    try:
        reading = layout.read(columns)
    except MalformedError as error:
        return _malformed(row, columns, layout, error)
    question = " ".join(reading.question.split())
    normalized = normalize_question(question)
    if not normalized:
        return Rejected(row.file, row.line, "empty", "the question has no letter and no digit", question)
    answers = distinct_answers(reading.answers)
    if not answers:
        reason, detail = _why_unanswered(reading)
        return Rejected(row.file, row.line, reason, detail, question)
    identifier = reading.id or f"q{hashlib.sha256(normalized.encode()).hexdigest()[:16]}"
    source = f"{row.file}:{row.line}"
    paragraphs = tuple(dict.fromkeys(text_id(text) for text in reading.paragraphs if text.strip()))
    gold_ids = tuple(dict.fromkeys(reading.gold_ids))
    return Question(identifier, question, answers, gold_ids, reading.title, source, paragraphs)


def _why_unanswered(reading: Reading) -> tuple[str, str]:
    if reading.answers:
        return "empty", "its answers are blank, punctuation or articles"
    if reading.yes_no:
        return "yes_no", "answered by yes or no, not by words of the document"
    if reading.long_answer:
        return "long_only", "a long answer without a short one"
    return "empty", "no annotator found an answer"


def _malformed(row: Row, columns: Columns, layout: Layout, error: MalformedError) -> Rejected:
    likely = layout_of(row.value)
    hint = "" if not likely or LAYOUTS[likely] is layout else f'; is this layout "{likely}"?'
    question = columns.get("question_text", columns.get("question"))
    if isinstance(question, Mapping):
        question = question.get("text")
    shown = question if isinstance(question, str) else ""
    return Rejected(row.file, row.line, "malformed", f"{error}{hint}", shown)


def _columns(row: Columns) -> str:
    return f"columns {', '.join(map(str, list(row)[:8]))}" if row else "no columns"
