"""The README's commands and tables, held against what is there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ragtune.questions.layouts import LAYOUTS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", README, re.S) for line in block.splitlines() if line]
RUN_BY_CI = {"make demo", "make test"}  # .ci/run calls both
NEEDS_THE_HUB = "params/nq-small.yaml"


def test_every_command_is_accounted_for():
    ci = (ROOT / ".ci" / "run").read_text()
    assert all(command in ci for command in RUN_BY_CI)
    known = RUN_BY_CI | {command for command in COMMANDS if NEEDS_THE_HUB in command} | set(short_commands())
    assert set(COMMANDS) == known


def short_commands() -> list[str]:
    """What this file runs, in the README's order: first the short run, since the others look at runs/latest."""
    return [c for c in COMMANDS if c.startswith(("python pipeline.py", "ragtune ")) and NEEDS_THE_HUB not in c]


@pytest.mark.slow
def test_commands_and_python_example_run_as_written(tmp_path):
    for name in ("pipeline.py", "components", "ragtune", "params", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    for command in short_commands():
        words = _words(command)
        result = subprocess.run(_executable(words), cwd=tmp_path, capture_output=True, text=True)
        assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
    example = re.search(r"```python\n(.*?)```", README, re.S)[1]
    result = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def _words(command: str) -> list[str]:
    return [part.strip('"') for part in re.findall(r'"[^"]*"|\S+', command)]


def _executable(words: list[str]) -> list[str]:
    if words[0] == "ragtune":
        return [sys.executable, "-m", "ragtune", *words[1:]]
    return [sys.executable, *words[1:]]


def test_the_run_that_needs_the_hub_names_its_parameters_right():
    from pipeline import rag_finetuning
    from ragtune.kubeflow.parameters import read_parameters

    for name in ("nq-small", "nq-full", "squad-end2end"):
        values = read_parameters(rag_finetuning.pipeline_func, ROOT / "params" / f"{name}.yaml", ["corpus=mine"])
        assert values["generator"] == "facebook/bart-large"


def test_the_table_of_layouts_has_their_names():
    table = README[README.index("| layout |") :].split("\n\n")[0]
    assert {row.split("`")[1] for row in table.splitlines()[2:]} == set(LAYOUTS)


def test_every_link_to_a_file_leads_somewhere():
    for target in re.findall(r"\]\((?!https?:|#)([^)]+)\)", README):
        assert (ROOT / target).exists(), target
