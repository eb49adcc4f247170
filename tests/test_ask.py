import errno
import io
import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from dataclasses import asdict

import pyarrow as pa
import pytest
from tiny_models import save_tiny_parts

from ragtune.__main__ import main
from ragtune.knowledge.knowledge_base import KnowledgeBase, ingest_passages
from ragtune.knowledge.passages import Passages
from ragtune.knowledge.pointers import pointer_to, resolve
from ragtune.models.checkpoint import load_model, save_model
from ragtune.models.encoders import Encoder
from ragtune.models.rag import RagConfig, RagModel

QUESTION = "what is the capital of land3"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A model that knows its knowledge base, and one that knows none."""
    folder = tmp_path_factory.mktemp("world")
    texts = [f"The capital of land{n} is city{n}. {'It is a large city. ' * 30}" for n in range(8)]
    table = pa.table({"id": [f"w{n}" for n in range(8)], "title": [f"Land{n}" for n in range(8)], "text": texts})
    Passages(table).save(folder / "passages.parquet")
    parts = save_tiny_parts(folder / "parts", [*texts, QUESTION])
    ingest_passages(folder / "passages.parquet", folder / "kb", Encoder.from_pretrained(parts[1], "passage"))
    model = RagModel.from_parts(*parts, RagConfig(n_docs=3, temperature=4.0))
    save_model(model, folder / "model", {"knowledge_base": asdict(pointer_to(*resolve(folder / "kb")))})
    save_model(model, folder / "model_without")
    return folder


def test_the_answer_comes_with_its_passages_and_their_probabilities(world, capsys):
    assert main(["ask", "--model", str(world / "model"), "--json", QUESTION]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["question"] == QUESTION and isinstance(answer["answer"], str)
    assert len(answer["passages"]) == 3
    probabilities = [passage["probability"] for passage in answer["passages"]]
    assert sum(probabilities) == pytest.approx(1)
    assert probabilities == sorted(probabilities, reverse=True)
    for passage in answer["passages"]:
        assert passage["title"] == f"Land{passage['id'][1:]}" and passage["text"].startswith("The capital of land")


def test_people_get_a_table(world, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["ask", "--model", str(world / "model"), QUESTION]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:3] == ["", "p(z|x)  passage"]
    assert sum(": The capital of land" in line for line in lines) == 3
    assert max(map(len, lines[1:])) <= 80  # the answer itself is one line, as long as it is
    assert any(line.endswith("…") for line in lines)


def test_a_model_is_asked_with_its_own_passages_even_when_another_corpus_is_served(world, capsys, tmp_path):
    base = shutil.copytree(world / "kb", tmp_path / "kb")
    model = load_model(world / "model")
    save_model(model, tmp_path / "model", {"knowledge_base": asdict(pointer_to(*resolve(base)))})
    table = pa.table({"id": ["x"], "title": ["Other"], "text": ["city9 is the capital of something else"]})
    Passages(table).save(tmp_path / "other.parquet")
    ingest_passages(tmp_path / "other.parquet", base, model.passage_encoder)
    assert main(["ask", "--model", str(tmp_path / "model"), "--json", QUESTION]) == 0
    titles = [passage["title"] for passage in json.loads(capsys.readouterr().out)["passages"]]
    assert len(titles) == 3 and all(title.startswith("Land") for title in titles)
    shutil.rmtree(base / "kb_v1")
    assert main(["ask", "--model", str(tmp_path / "model"), QUESTION]) == 1
    assert "ingest those passages again with that encoder into" in capsys.readouterr().err


def test_the_knowledge_base_can_be_named(world, capsys):
    arguments = ["ask", "--model", str(world / "model_without"), "--knowledge-base", str(world / "kb"), QUESTION]
    assert main(arguments) == 0
    assert "p(z|x)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "model_without", QUESTION], "names no version of a knowledge base; give one with"),
        (["--model", "nowhere", QUESTION], "nowhere/ragtune.json: missing, so this is no ragtune model"),
        (["--model", "model", "--knowledge-base", "parts", QUESTION], "no knowledge base there"),
        (["--model", "model", " "], "the question is empty"),
    ],
)
def test_an_error_is_one_line_on_stderr(world, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(world)
    assert main(["ask", *arguments]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("ragtune: ") and output.err.count("\n") == 1
    assert message in output.err


def test_a_model_is_loaded_once_for_several_questions_answered_in_their_order(world, capsys, monkeypatch):
    loaded = []
    monkeypatch.setattr(
        KnowledgeBase, "open", lambda *a, _open=KnowledgeBase.open, **k: loaded.append(a) or _open(*a, **k)
    )
    other = QUESTION.replace("3", "5")
    assert main(["ask", "--model", str(world / "model"), QUESTION, other]) == 0
    tables = capsys.readouterr().out.rstrip().split("\n\n")
    assert [block.splitlines()[0] for block in tables[::2]] == [QUESTION, other]
    assert main(["ask", "--model", str(world / "model"), "--json", "--batch-size", "1", QUESTION, other]) == 0
    assert [row["question"] for row in answers(capsys)] == [QUESTION, other]
    assert len(loaded) == 2


def answers(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_file_of_text_and_json_is_answered_line_by_line_and_bad_lines_are_told(world, capsys, tmp_path):
    file = tmp_path / "questions.jsonl"
    rows = ["\ufeff" + QUESTION, json.dumps({"id": "q2", "question": QUESTION}), "", '{"question": ', '{"id": 4}']
    rows += ['{"question": " "}', '{"question": "\\ud800"}', json.dumps({"id": 8, "question": "who"})]
    file.write_bytes("\n".join(rows).encode() + b"\nwh\xe9re\nw\0h\0o\0\n" + b"a" * ((64 << 20) + 1) + b"\n")
    assert main(["ask", "--model", str(world / "model"), "--file", str(file)]) == 1
    output = capsys.readouterr()
    found = [json.loads(line) for line in output.out.splitlines()]
    assert [(row["line"], row.get("id"), row["question"]) for row in found] == [
        (1, None, QUESTION),
        (2, "q2", QUESTION),
        (8, 8, "who"),
    ]
    assert found[0]["passages"] == found[1]["passages"] and len(found[2]["passages"]) == 3
    told = [line.removeprefix(f"ragtune: {file}:") for line in output.err.splitlines()]
    assert [line.split(":")[0] for line in told] == ["4", "5", "6", "7", "9", "10", "11"]
    assert "broken JSON" in told[0] and 'no "question"' in told[1] and "not UTF-8" in told[4]
    assert "is this UTF-16?" in told[5] and "is longer than 64 MiB" in told[6]


class Pipe(io.RawIOBase):
    """Standard input that notes how many answers had been printed when each line was asked for."""

    def __init__(self, lines, printed):
        self.lines, self.printed, self.answered = iter(lines), printed, []

    def readline(self, size=-1):
        self.answered.append(len(self.printed))
        return next(self.lines, b"")


def test_standard_input_is_answered_while_it_comes(world, monkeypatch):
    printed = []
    pipe = Pipe([f"{QUESTION}\n".encode()] * 5, printed)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    monkeypatch.setattr("ragtune.ask._opened", lambda file: pipe)
    monkeypatch.setattr("builtins.print", lambda line, **options: printed.append(line))
    assert main(["ask", "--model", str(world / "model"), "--batch-size", "2", "--file", "-"]) == 0
    assert pipe.answered == [0, 0, 2, 2, 4, 4]
    assert [json.loads(line)["line"] for line in printed] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("arguments", [[], ["-"], ["--file", "-"]])
def test_no_question_on_standard_input_is_an_error(world, capsys, monkeypatch, arguments):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\n")))
    assert main(["ask", "--model", str(world / "model"), *arguments]) == 1
    assert capsys.readouterr().err == "ragtune: standard input: holds no question\n"


def test_a_closed_standard_input_is_an_error(world, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    for arguments, message in ([], "no question: give one"), (["-"], "standard input is closed"):
        assert main(["ask", "--model", str(world / "model"), *arguments]) == 1
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--json"], ""), ([], r"ragtune: standard output takes no '\xe9'; give --json, or set PYTHONIOENCODING=utf-8")],
)
def test_a_terminal_that_knows_ascii_alone_gets_json_all_the_same(world, capsys, monkeypatch, arguments, message):
    output = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr("sys.stdout", output)
    asked = ["ask", "--model", str(world / "model"), *arguments, "wh\xe9re", "and 北京"]
    assert main(asked) == (1 if message else 0)
    assert capsys.readouterr().err.strip() == message
    if not message:
        rows = [json.loads(line) for line in output.buffer.getvalue().decode("ascii").splitlines()]
        assert [row["question"] for row in rows] == ["wh\xe9re", "and 北京"]


def test_a_full_disk_is_told(world, capsys, monkeypatch):
    def full(line, **options):
        if options.get("file") is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        sys.stderr.write(f"{line}\n")

    monkeypatch.setattr("builtins.print", full)
    assert main(["ask", "--model", str(world / "model"), "--json", QUESTION]) == 1
    assert "standard output: the disk is full" in capsys.readouterr().err


def test_questions_come_from_one_place(world, capsys):
    assert main(["ask", "--model", str(world / "model"), "--file", "questions.txt", "who"]) == 1
    assert "give questions, or --file, not both" in capsys.readouterr().err


def test_a_prompt_keeps_a_history_and_ends_quietly(world):
    """In a pseudo-terminal: a question, the same again by the arrow key, a broken one, and Ctrl-D."""
    process, terminal = pty.fork()
    if process == 0:
        os.execv(sys.executable, [sys.executable, "-m", "ragtune", "ask", "--model", str(world / "model")])
    screen = ""

    def until(pattern):
        nonlocal screen
        deadline = time.monotonic() + 300
        while not (match := re.search(pattern, screen, re.S)):
            assert select.select([terminal], [], [], deadline - time.monotonic())[0], screen
            screen += os.read(terminal, 65536).decode()
        seen, screen = screen[: match.end()], screen[match.end() :]
        return seen

    until("question> ")
    os.write(terminal, f"{QUESTION}\r".encode())
    first = until(r"p\(z\|x\)  passage.*question> ")
    os.write(terminal, b"\x1b[A\r")
    again = until(r"p\(z\|x\)  passage.*question> ")
    assert QUESTION in again and again.splitlines()[2:] == first.splitlines()[2:]
    os.write(terminal, b"\r")
    until("question> ")
    os.write(terminal, b"\x04")
    _, status = os.waitpid(process, 0)
    assert status == 0
    assert os.read(terminal, 65536).decode().split() == []


def test_control_c_ends_a_prompt_too_and_an_error_does_not(world, capsys, monkeypatch):
    typed = iter(["who", "\udce9"])

    def type_next(prompt):
        for text in typed:
            return text
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.input", type_next)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["ask", "--model", str(world / "model"), "--json"]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["question"] == "who"
    assert "the question is not valid Unicode" in output.err


def test_a_knowledge_base_that_is_gone_is_an_error(world, capsys, tmp_path):
    shutil.copytree(world / "model", tmp_path / "model")
    description = json.loads((tmp_path / "model" / "ragtune.json").read_text())
    description["lineage"]["knowledge_base"]["path"] = str(tmp_path / "gone")
    (tmp_path / "model" / "ragtune.json").write_text(json.dumps(description))
    assert main(["ask", "--model", str(tmp_path / "model"), QUESTION]) == 1
    assert "knowledge base is gone; give one" in capsys.readouterr().err


def test_the_command_says_nothing_but_the_answer(world):
    command = [sys.executable, "-m", "ragtune", "ask", "--model", str(world / "model"), QUESTION]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stderr == ""
    assert "p(z|x)  passage" in done.stdout
