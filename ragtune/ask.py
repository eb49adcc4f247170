"""`ragtune ask`: questions given, in a file, on standard input or at a prompt, answered by a model loaded once."""

import argparse
import contextlib
import itertools
import json
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ragtune import strict_json
from ragtune.errors import ModelError, ParameterError, QuestionError, RagtuneError, StorageError
from ragtune.files import describe_write_error, open_uri
from ragtune.knowledge.pointers import Pointer, pointer_from
from ragtune.progress import progress, say
from ragtune.questions.lines import TOO_LONG, raw_lines

STDIN = "-"
_NARROWEST, _WIDEST = 60, 120  # columns of the table
_PROMPT = "question> "

Answering = Callable[[list[str]], list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and what else its answer repeats: a file's line number, and the id where the line gave one."""

    text: str
    place: dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `ask` takes."""
    parser.add_argument(
        "questions",
        nargs="*",
        metavar="question",
        help="a question; without any, a terminal gets a prompt; - is --file -",
    )
    parser.add_argument("--model", required=True, metavar="DIR", help="model folder, as a run leaves it")
    parser.add_argument(
        "--file",
        default="",
        metavar="FILE",
        help='file of one question per line, as text or as JSON with "question" and, if wanted, "id"; - is standard '
        "input. Answers are JSON lines in the same order",
    )
    parser.add_argument(
        "--knowledge-base",
        default="",
        metavar="DIR",
        help="folder of a knowledge base (default: the version that the model was trained with)",
    )
    parser.add_argument(
        "--num-beams", type=_at_least_one, default=2, metavar="N", help="beams per passage (default: %(default)s)"
    )
    parser.add_argument(
        "--batch-size",
        type=_at_least_one,
        default=16,
        metavar="N",
        help="questions answered at once; 1 answers each line as it comes (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="one line of JSON per question, for programs")


def run(options: argparse.Namespace) -> int:
    """Answer what the command line asks; 1 if a line of the file was no question, else 0.

    Raises:
        ParameterError, QuestionError, StorageError: there is no question, or it cannot be read.
        ModelError, KnowledgeBaseError: what is needed is missing, broken, or does not fit.
    """
    file = STDIN if options.questions == [STDIN] else options.file
    if file and options.questions not in ([], [STDIN]):
        raise ParameterError("give questions, or --file, not both")
    if not file and not options.questions:
        if sys.stdin and sys.stdin.isatty() and sys.stdout.isatty():
            return _prompt(options)
        if not sys.stdin or sys.stdin.isatty():  # None where it is closed
            raise ParameterError("no question: give one, or --file FILE")
        file = STDIN
    if file:
        return _answer_file(file, options)
    questions = [Asked(_checked(text), {}) for text in options.questions]
    with answering(options) as answer:
        for row in _answers(questions, answer, options.batch_size):
            table = _as_table(row) if len(questions) == 1 else f"{row['question']}\n{_as_table(row)}\n"
            _print(_as_json(row) if options.json else table)
    return 0


@contextlib.contextmanager
def answering(options: argparse.Namespace) -> Iterator[Answering]:
    """Load model and knowledge base once; yield a function that answers a batch of questions.

    An answer is {"question", "answer", "passages": [{"id", "title", "text", "probability"}, …]}, most probable first.
    """
    quiet_transformers()
    from ragtune.evaluation.asking import ask
    from ragtune.knowledge.opening import open_to_read
    from ragtune.models.checkpoint import load_model

    place = options.knowledge_base or _trained_with(options.model)
    model = load_model(options.model)
    with open_to_read(place, encoder_fingerprint=model.passage_encoder.fingerprint) as base:

        def answer(questions: list[str]) -> list[dict[str, Any]]:
            asked = ask(model, base, questions, num_beams=options.num_beams, batch_size=options.batch_size)
            found = zip(questions, asked.answers, asked.rows.tolist(), asked.probabilities.tolist(), strict=True)
            return [
                {"question": question, "answer": text, "passages": _passages(base, rows, probabilities)}
                for question, text, rows, probabilities in found
            ]

        yield answer


def _passages(base: Any, rows: list[int], probabilities: list[float]) -> list[dict[str, Any]]:
    found = [
        (base.passages[row], probability) for row, probability in zip(rows, probabilities, strict=True) if row >= 0
    ]
    return [
        {"id": passage.id, "title": passage.title, "text": passage.text, "probability": probability}
        for passage, probability in found
    ]


def _answers(questions: Iterable[Asked], answer: Answering, batch_size: int) -> Iterator[dict[str, Any]]:
    remaining = iter(questions)
    while batch := list(itertools.islice(remaining, batch_size)):
        for asked, row in zip(batch, answer([asked.text for asked in batch]), strict=True):
            yield {**asked.place, **row}


def _answer_file(file: str, options: argparse.Namespace) -> int:
    wrong: list[int] = []
    name = "standard input" if file == STDIN else file
    if file == STDIN and not sys.stdin:
        raise ParameterError("standard input is closed; give a question, or --file FILE")
    with _opened(file) as stream:
        questions: Iterator[Asked] = _questions_of(stream, name, wrong)
        first = list(itertools.islice(questions, 1))  # before the model is loaded: there may be none
        if not first and not wrong:
            raise QuestionError(f"{name}: holds no question")
        questions = itertools.chain(first, questions)
        if not sys.stdout.isatty():  # where the answers themselves do not show how far it is
            questions = progress(questions, "answering", unit="questions")
        with answering(options) as answer:
            for row in _answers(questions, answer, options.batch_size):
                _print(_as_json(row))
    return 1 if wrong else 0


def _opened(file: str) -> Any:
    return contextlib.nullcontext(sys.stdin.buffer) if file == STDIN else open_uri(file)


def _questions_of(stream: BinaryIO, name: str, wrong: list[int]) -> Iterator[Asked]:
    """A line that is no question is reported on stderr and left out; its number goes into `wrong`."""
    for number, line in raw_lines(stream, name):
        try:
            asked = _read_line(line, number)
        except QuestionError as error:
            say(f"ragtune: {name}:{number}: {error}")
            wrong.append(number)
            continue
        if asked:
            yield asked


def _read_line(line: bytes | None, number: int) -> Asked | None:
    """The question of a line; None of an empty one."""
    if line is None:
        raise QuestionError(TOO_LONG)
    try:
        text = line.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise QuestionError(f"not UTF-8: {error.reason} at byte {error.start + 1}; convert it") from error
    if not text:
        return None
    if not text.startswith("{"):
        return Asked(_checked(text), {"line": number})
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise QuestionError(f"broken JSON: {error}") from error
    if not isinstance(row.get("question"), str):
        raise QuestionError('no "question" that is text')
    return Asked(_checked(row["question"]), {"line": number} | ({"id": row["id"]} if "id" in row else {}))


def _checked(text: str) -> str:
    if not text.strip():
        raise QuestionError("the question is empty")
    if "\0" in text:
        raise QuestionError("the question holds NUL; is this UTF-16? Convert it to UTF-8")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise QuestionError(f"the question is not valid Unicode: {error.reason}") from error
    return text


def _prompt(options: argparse.Namespace) -> int:
    """Ask for a question until Ctrl-D or Ctrl-C; an error of one question does not end it."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 (gives `input` its editing and history)
    say(f"Loading {options.model} …")
    with answering(options) as answer, contextlib.suppress(EOFError, KeyboardInterrupt):
        say("Ctrl-D ends.")
        while True:
            if not (question := input(_PROMPT)).strip():
                continue
            try:
                row = answer([_checked(question)])[0]
                _print(_as_json(row) if options.json else f"{_as_table(row)}\n")
            except RagtuneError as error:
                say(f"ragtune: {' '.join(str(error).split())}")
    print()
    return 0


def _trained_with(model_folder: str) -> Pointer:
    from ragtune.models.checkpoint import read_description

    try:
        pointer = pointer_from(read_description(model_folder)["lineage"]["knowledge_base"])
    except KeyError as error:
        raise ModelError(
            f"{model_folder}/ragtune.json: names no version of a knowledge base; give one with --knowledge-base"
        ) from error
    if not Path(pointer.path).is_dir():
        raise ModelError(f"{pointer.path}: {model_folder}'s knowledge base is gone; give one with --knowledge-base")
    return pointer


def _as_json(row: dict[str, Any]) -> str:
    everything = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"  # what else can be printed is ASCII
    return strict_json.dumps(row, ensure_ascii=not everything)


def _print(line: str) -> None:
    try:
        print(line, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise describe_write_error(error, "standard output") from error
    except UnicodeEncodeError as error:
        raise StorageError(
            f"standard output takes no {error.object[error.start]!a}; give --json, or set PYTHONIOENCODING=utf-8"
        ) from error


def _as_table(row: dict[str, Any]) -> str:
    width = min(max(shutil.get_terminal_size().columns, _NARROWEST), _WIDEST)
    lines = [row["answer"] or "(no answer)", "", "p(z|x)  passage"]
    for passage in row["passages"]:
        text = f"{passage['title']}: {passage['text']}" if passage["title"] else passage["text"]
        first, *rest = textwrap.wrap(text, width - 8, max_lines=3, placeholder=" …") or [""]
        lines += [f"{passage['probability']:6.3f}  {first}", *(f"        {line}" for line in rest)]
    return "\n".join(lines)


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: a whole number, 1 or more")
    return int(text)


def quiet_transformers() -> None:
    """No bars for weights that load in a moment; an answer is all that is wanted."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
