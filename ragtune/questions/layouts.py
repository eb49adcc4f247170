"""Layouts of question files, and their names for question, answers and annotations."""

import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from ragtune.questions.cleaning import clean, text_id
from ragtune.questions.detokenization import detokenize, is_html

Row = Mapping[str, Any]


class MalformedError(Exception):
    """A row that does not hold what its layout promises; the message says what."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The content of one row, before it is judged.

    Attributes:
        id: "" where the row has none.
        question: as it was asked.
        answers: short answers of all annotators, in their order; may be empty, blank or repeated.
        gold_ids: ids of passages known to answer it.
        title: of the document; "" where unknown.
        paragraphs: texts that it was asked about: a context, or the long answers.
        yes_no: an annotator answered yes or no.
        long_answer: an annotator marked a long answer.
    """

    id: str
    question: str
    answers: Sequence[str]
    gold_ids: Sequence[str]
    title: str
    paragraphs: Sequence[str] = ()
    yes_no: bool = False
    long_answer: bool = False


@dataclass(frozen=True)
class Layout:
    """One way to write questions down.

    Attributes:
        fields: those that it is recognised by, for an error message.
        fits: whether a row looks like it.
        read: a row's reading; raises MalformedError.
        rows: the questions in a row of the file, where that is more than one.
    """

    fields: str
    fits: Callable[[Row], bool]
    read: Callable[[Row], Reading]
    rows: Callable[[Row], Iterator[Row]] = lambda row: iter((row,))


def _original(row: Row) -> Reading:
    tokens = _list(row, "document_tokens")

    def text(start: int, end: int) -> str:
        return _joined(_records(tokens[start:end], "document_tokens"), "html_token")

    return _annotated(row, "question_text", _document_title(row), len(tokens), text)


def _simplified(row: Row) -> Reading:
    tokens = _text(row, "document_text").split(" ")

    def text(start: int, end: int) -> str:
        return detokenize([token for token in tokens[start:end] if not is_html(token)])

    return _annotated(row, "question_text", _document_title(row), len(tokens), text)


def _hugging_face(row: Row) -> Reading:
    document = row.get("document")
    if not isinstance(document, Mapping):
        raise MalformedError('"document" must be an object')
    tokens = document.get("tokens")

    def text(start: int, end: int) -> str:
        span = _records(_cut(tokens, start, end), "document.tokens")
        return _joined(span, "is_html")

    question = row.get("question")
    flat = dict(row) | {"question": question.get("text") if isinstance(question, Mapping) else question}
    return _annotated(flat, "question", document.get("title"), _length(tokens), text)


def _length(tokens: Any) -> int:
    if isinstance(tokens, Mapping):
        tokens = tokens.get("token")
    if not isinstance(tokens, list):
        raise MalformedError('"document.tokens" must be a list of objects, or an object of lists')
    return len(tokens)


def _cut(tokens: Any, start: int, end: int) -> Any:
    if isinstance(tokens, Mapping):
        return {name: column[start:end] if isinstance(column, list) else column for name, column in tokens.items()}
    return tokens[start:end]


def _annotated(row: Row, key: str, title: Any, tokens: int, text: Callable[[int, int], str]) -> Reading:
    """A row of Natural Questions: answers are spans of tokens, several annotators give some each."""
    answers = []
    marked_spans = []
    yes_no = long_answer = False
    for annotation in _records(row.get("annotations"), "annotations"):
        for span in _records(annotation.get("short_answers"), "short_answers"):
            start, end = span.get("start_token"), span.get("end_token")
            if not isinstance(start, int) or not isinstance(end, int) or not 0 <= start < end <= tokens:
                raise MalformedError(f"a short answer from token {start} to {end} of a document of {tokens:,} tokens")
            answers.append(text(start, end))
        yes_no |= annotation.get("yes_no_answer") in ("YES", "NO", 0, 1)
        marked = annotation.get("long_answer")
        start, end = (
            marked.get(name) if isinstance(marked, Mapping) else None for name in ("start_token", "end_token")
        )
        if isinstance(start, int) and start >= 0:
            long_answer = True
            if isinstance(end, int) and start < end <= tokens:
                marked_spans.append((start, end))
    paragraphs = [text(start, end) for start, end in marked_spans] if answers else []
    return Reading(
        _id(row),
        _text(row, key),
        answers,
        _gold_ids(row),
        _title(title),
        paragraphs,
        yes_no=yes_no,
        long_answer=long_answer,
    )


def _joined(span: Sequence[Row], html: str) -> str:
    words: list[str] = []
    adjacent: list[bool] = []
    end = None
    for token in span:
        if not isinstance(token.get("token"), str) or html not in token:
            raise MalformedError(f'a token of an answer has no "token" or "{html}"')
        if not token[html]:
            words.append(_encodable(token["token"], "token"))
            adjacent.append(end is not None and token.get("start_byte") == end)
        end = token.get("end_byte")
    return detokenize(words, adjacent)


def _open(row: Row) -> Reading:
    return _asked(row, _answers(row, "answer"))


def _plain(row: Row) -> Reading:
    return _asked(row, _answers(row, "answers"))


def _query_response(row: Row) -> Reading:
    return _asked(row, _answers(row, "response"), "query")


def _asked(row: Row, answers: Sequence[str], key: str = "question") -> Reading:
    context, long_answer = (_optional(row, name) for name in ("context", "long_answer"))
    gold_ids = _gold_ids(row) or ([text_id(context)] if context else [])
    paragraphs = [text for text in (context, long_answer) if text]
    return Reading(_id(row), _text(row, key), answers, gold_ids, _title(row.get("title")), paragraphs)


def _squad_rows(article: Row) -> Iterator[Row]:
    for paragraph in _list(article, "paragraphs"):
        if not isinstance(paragraph, Mapping):
            raise MalformedError('a paragraph must be an object with "qas"')
        for question in _list(paragraph, "qas"):
            if not isinstance(question, Mapping):
                raise MalformedError('an element of "qas" must be an object')
            yield dict(question) | {
                "title": _title(article.get("title")).replace("_", " "),
                "context": paragraph.get("context"),
            }


def _squad(row: Row) -> Reading:
    return _asked(row, [_text(answer, "text") for answer in _records(row.get("answers"), "answers")])


LAYOUTS = {
    "nq-original": Layout(
        "question_text, document_tokens, annotations", lambda row: "document_tokens" in row, _original
    ),
    "nq-simplified": Layout(
        "question_text, document_text, annotations", lambda row: "document_text" in row, _simplified
    ),
    "nq-huggingface": Layout(
        "question.text, document.tokens, annotations",
        lambda row: "document" in row and "annotations" in row,
        _hugging_face,
    ),
    "squad": Layout("data[].paragraphs[].qas[]", lambda row: "paragraphs" in row, _squad, _squad_rows),
    "plain": Layout("question, answers", lambda row: "question" in row and "answers" in row, _plain),
    "nq-open": Layout("question, answer", lambda row: "question" in row and "answer" in row, _open),
    "query-response": Layout("query, response", lambda row: "query" in row and "response" in row, _query_response),
}


def layout_of(row: Row) -> str:
    """The name of the layout that a row is in; "" if in none."""
    return next((name for name, layout in LAYOUTS.items() if layout.fits(row)), "")


def _text(row: Row, key: str) -> str:
    value = row.get(key)
    if value is None:
        raise MalformedError(f'no "{key}"')
    if not isinstance(value, str):
        raise MalformedError(f'"{key}" must be text, this is of type {type(value).__name__}')
    return _encodable(value, key)


def _answers(row: Row, key: str) -> Sequence[str]:
    value = row.get(key)
    if value is None:
        raise MalformedError(f'no "{key}"')
    if isinstance(value, Mapping):  # Hugging Face's SQuAD: {"text": [...], "answer_start": [...]}
        value = value.get("text")
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(answer, str) for answer in value):
        raise MalformedError(f'"{key}" must be a text or a list of texts')
    return [_encodable(answer, key) for answer in value]


def _gold_ids(row: Row) -> Sequence[str]:
    value = row.get("gold_ids")
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(identifier, str | int) for identifier in value):
        raise MalformedError('"gold_ids" must be a list of ids')
    return [cleaned for identifier in value if (cleaned := clean(str(identifier)))]


def _id(row: Row) -> str:
    value = row.get("id", row.get("example_id"))
    return clean(str(value)) if isinstance(value, str | int) else ""


def _title(value: Any) -> str:
    return clean(_encodable(value, "title")) if isinstance(value, str) else ""


def _optional(row: Row, key: str) -> str:
    value = row.get(key)
    return clean(value) if isinstance(value, str) else ""


def _document_title(row: Row) -> str:
    """As the row has it, else as the page's address spells it."""
    if title := _title(row.get("document_title")):
        return title
    try:
        address = urlsplit(html.unescape(_optional(row, "document_url")))
    except ValueError:  # no address
        return ""
    named = parse_qs(address.query).get("title", [""])[0] or unquote(address.path).rpartition("/")[2]
    return clean(named.replace("_", " "))


def _list(row: Row, key: str) -> list[Any]:
    value = row.get(key)
    if not isinstance(value, list):
        raise MalformedError(f'"{key}" must be a list' if key in row else f'no "{key}"')
    return value


def _records(value: Any, key: str) -> list[Row]:
    """A list of objects; an object of lists, as Hugging Face's Sequence has it, becomes one."""
    if isinstance(value, Mapping) and all(isinstance(column, list) for column in value.values()):
        lengths = {len(column) for column in value.values()}
        if len(lengths) <= 1:
            return [dict(zip(value, record, strict=True)) for record in zip(*value.values(), strict=True)]
    if not isinstance(value, list) or not all(isinstance(record, Mapping) for record in value):
        raise MalformedError(f'no "{key}"' if value is None else f'"{key}" must be a list of objects')
    return value


def _encodable(text: str, key: str) -> str:
    """The text, with spaces for NUL, which databases end a text at."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise MalformedError(f'"{key}" holds half a character (a lone surrogate)') from error
    return text.replace("\0", " ")
