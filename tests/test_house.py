"""The house's numbers, kept: short files, few on a floor, docstrings that open well, a README of one page."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
FOLDERS = ("ragtune", "components", "benchmarks", "docs", "tests")
LIBRARY = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in ROOT.glob("ragtune/**/*.py")}
LONGEST = 300


def docstrings() -> Iterator[tuple[str, str]]:
    """Place and text of every docstring."""
    for path in [ROOT / "pipeline.py", *(path for folder in FOLDERS for path in ROOT.glob(f"{folder}/**/*.py"))]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and (
                text := ast.get_docstring(node)
            ):
                yield f"{path.relative_to(ROOT)}:{node.body[0].lineno}", text


def test_docstrings_open_with_a_noun_phrase_or_an_imperative():
    everything = list(docstrings())
    questions = [place for place, text in everything if re.match(r"(What|Whether|How|Where|When)\b", text)]
    assert len(everything) > 1_000
    assert len(questions) < len(everything) / 100, questions


def test_files_are_short():
    assert not {str(path.relative_to(ROOT)): lines for path, lines in LIBRARY.items() if lines > LONGEST}
    assert median(LIBRARY.values()) < 130


def test_trainings_floor_is_no_heap():
    assert len([path for path in LIBRARY if path.parent == ROOT / "ragtune" / "training"]) <= 16


def test_the_readme_is_one_page():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_no_two_files_of_tests_have_one_name():
    """pytest takes the second one for the first, and runs neither."""
    names = [path.name for path in ROOT.glob("tests/**/*.py") if path.name != "conftest.py"]
    assert sorted(names) == sorted(set(names))
