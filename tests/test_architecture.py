"""The order of the rooms: data flows down the list, and a room imports rooms above it, never below."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = (
    ("uris",),
    ("errors",),
    ("settings",),
    ("reading",),
    ("files", "progress", "companion", "provenance", "hub", "strict_json"),
    ("locks",),
    ("questions",),
    ("sources",),
    ("knowledge",),
    ("ray_cluster",),
    ("models",),
    ("training",),
    ("federation",),
    ("evaluation",),
    ("registry",),
    ("kubeflow", "reachable", "ask"),
    ("sample", "__main__"),
)
LEVELS = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
# A library, and the only places that may import it.
HOMES = {
    "kfp": ("pipeline.py", "components/", "ragtune/kubeflow/"),
    "feast": ("ragtune/knowledge/feast_names.py",),  # twice as slow to import elsewhere
    "flwr": ("ragtune/federation/",),
    "kubernetes": ("ragtune/training/launchers/trainjob/",),
    "pymilvus": ("ragtune/knowledge/",),
}
SOURCES = sorted([*ROOT.glob("ragtune/**/*.py"), *ROOT.glob("components/*.py"), ROOT / "pipeline.py"])


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of every module that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import; name the module in full"
            yield node.lineno, node.module or ""


def room_of(parts: tuple[str, ...]) -> str:
    return parts[1].removesuffix(".py") if len(parts) > 1 else ""


def test_every_room_has_its_place_in_the_order() -> None:
    rooms = {room_of(path.relative_to(ROOT).parts) for path in ROOT.glob("ragtune/**/*.py")} - {"__init__"}
    assert rooms == set(LEVELS)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_order(path: Path) -> None:
    place = path.relative_to(ROOT)
    for line, module in imported(path):
        top = module.partition(".")[0]
        if top in HOMES:
            assert str(place).startswith(HOMES[top]), f"{place}:{line}: {top} belongs in {', '.join(HOMES[top])}"
        if place.parts[:2] in (("ragtune", "questions"), ("ragtune", "hub.py")):
            assert top != "torch", f"{place}:{line}: questions are read and tokenised where there is no torch"
        if place.parts[0] == "ragtune" and top == "ragtune" and "." in module:
            own, other = room_of(place.parts), room_of(tuple(module.split(".")))
            assert own == other or LEVELS.get(own, -1) > LEVELS[other], f"{place}:{line}: {own} must not know {other}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_library_never_imports_what_stands_on_it(path: Path) -> None:
    place = path.relative_to(ROOT)
    if place.parts[0] == "ragtune":
        tops = {module.partition(".")[0] for _, module in imported(path)}
        assert not tops & {"components", "pipeline", "tests", "benchmarks"}, str(place)
