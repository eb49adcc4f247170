"""The commands, files, tables and links of the README and of docs/, held against what is there."""

import json
import re
import shlex
from pathlib import Path

import pytest

import pipeline
from ragtune.__main__ import main as ragtune
from ragtune.kubeflow.parameters import read_parameters
from ragtune.questions.layouts import LAYOUTS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES if page.exists()}
README = TEXTS[ROOT / "README.md"]
RUN_BY_CI = {"make demo", "make test", "make lint"}  # .ci/run calls them
NEEDS_THE_HUB = "params/nq-small.yaml"


def blocks(language: str, text: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```", text, re.S | re.M)
    return [re.sub(r"\\\n\s*", "", block) for block in found]  # a command may take two lines


COMMANDS = [line for text in TEXTS.values() for block in blocks("sh", text) for line in block.splitlines() if line]
SHORT = [command for command in COMMANDS if command not in RUN_BY_CI and NEEDS_THE_HUB not in command]


def test_ci_runs_the_commands_that_install():
    called = (ROOT / ".ci" / "run").read_text().splitlines()
    assert RUN_BY_CI & set(COMMANDS) <= set(called)


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    """A folder with the files of "On your own data" in it, and the repository's as far as commands name them."""
    for name in ("pipeline.py", "ragtune", "params"):
        (tmp_path / name).symlink_to(ROOT / name)
    shown = re.findall(r"`(\w+\.jsonl)`[^\n]*\n\n```json\n(.*?)```", README, re.S)
    assert len(shown) == 2
    for name, rows in shown:
        (tmp_path / name).write_text(rows, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pipeline, "COMPILED", tmp_path / "rag_finetuning.yaml")
    return tmp_path


@pytest.mark.slow
def test_commands_and_python_examples_run_as_written(own_folder, capsys):
    for command in SHORT:  # the README's first: it makes the runs/latest that the others look at
        program, *words = shlex.split(command)
        if program == "python":
            assert words.pop(0) == "pipeline.py", command
        status = {"python": pipeline.main, "ragtune": ragtune}[program](words)
        assert status == 0, f"{command}: {capsys.readouterr()}"
    for text in TEXTS.values():
        for example in blocks("python", text):
            exec(compile(example, "README", "exec"), {})
    assert json.loads(Path("runs/latest/metrics.json").read_text())["questions_kept"] == 6
    assert Path("runs/latest").resolve() == own_folder / "runs" / "mine"
    assert "Italy" in capsys.readouterr().out
    assert pipeline.COMPILED.read_bytes() == (ROOT / "compiled" / "rag_finetuning.yaml").read_bytes()


def test_the_runs_that_need_the_hub_name_their_parameters_right():
    for command in COMMANDS:
        if NEEDS_THE_HUB in command:
            words = shlex.split(command)
            sets = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
            read_parameters(pipeline.rag_finetuning.pipeline_func, ROOT / NEEDS_THE_HUB, sets)
    for name in ("nq-small", "nq-full", "squad-end2end"):
        path = ROOT / "params" / f"{name}.yaml"
        values = read_parameters(pipeline.rag_finetuning.pipeline_func, path, ["corpus=mine"])
        assert values["generator"] == "facebook/bart-large"


def test_the_table_of_layouts_has_their_names():
    text = TEXTS[ROOT / "docs" / "data.md"]
    table = text[text.index("| layout |") :].split("\n\n")[0]
    assert {row.split("`")[1] for row in table.splitlines()[2:]} == set(LAYOUTS)


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", TEXTS[page]):
        name, _, anchor = target.partition("#")
        place = page.parent / name if name else page
        assert place.exists(), target
        if anchor:
            assert anchor in anchors(place.read_text(encoding="utf-8")), target


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
