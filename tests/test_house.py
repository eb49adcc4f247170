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
# Modules without a test file of their own, and the one that tests them.
TESTED_BY = {
    "federation/outcome.py": "federation/test_simulate.py",
    "federation/simulation.py": "test_sample_parameters.py",
    "federation/site.py": "federation/test_client_app.py",  # whose answers they are
    "federation/site_training.py": "federation/test_client_app.py",
    "models/ray_embedding.py": "models/test_ray_encoder.py",  # processes and actors of one Ray
    "ray_cluster.py": "training/retrieval/test_ray_retrieval.py",
    "sample/countries.py": "sample/test_facts.py",  # four modules of facts and phrases, without a function
    "sample/elements.py": "sample/test_facts.py",
    "sample/us_states.py": "sample/test_facts.py",
    "sample/wording.py": "sample/test_make_world.py",
    "training/launchers/trainjob/body.py": "training/launchers/test_trainjob.py",  # one job over the wire, in parts
    "training/launchers/trainjob/cluster.py": "training/launchers/test_trainjob.py",
    "training/launchers/trainjob/launcher.py": "training/launchers/test_trainjob.py",
    "training/launchers/trainjob/logs.py": "training/launchers/test_trainjob.py",
    "training/launchers/trainjob/pod_states.py": "training/launchers/test_trainjob.py",
    "training/launchers/trainjob/preflight.py": "training/launchers/test_trainjob.py",
    "training/launchers/trainjob/shared_folder.py": "training/launchers/test_trainjob.py",
    "training/launchers/trainjob/termination.py": "training/launchers/test_trainjob.py",
    "training/methods/candidates.py": "training/methods/test_lsr.py",  # of this method and of those that build on it
    "training/methods/closed_book.py": "training/methods/test_methods_rag.py",  # each loss beside rag's
    "training/methods/end2end.py": "training/methods/test_methods_rag.py",
    "training/retrieval/ray_pool.py": "training/retrieval/test_ray_retrieval.py",
}


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


def test_every_module_has_a_file_of_tests():
    """`tests/<room>/test_<module>.py`, or `test_<folder>_<module>.py` where another room has taken that name."""
    tests, untested, needless = (
        ROOT / "tests",
        [],
        [name for name in TESTED_BY if not (ROOT / "ragtune" / name).exists()],
    )
    for path in LIBRARY:
        module = path.relative_to(ROOT / "ragtune")
        own = {module.with_name(f"test_{name}") for name in (module.name, f"{path.parent.name}_{module.name}")}
        found = any((tests / name).is_file() for name in own)
        if found and str(module) in TESTED_BY:
            needless.append(str(module))
        elsewhere = tests / TESTED_BY.get(str(module), "nowhere")
        if not (found or elsewhere.is_file() or path.name in ("__init__.py", "__main__.py")):
            untested.append(str(module))
    assert not untested, "give each a file of tests"
    assert not needless, "has its own by now, or is gone"
