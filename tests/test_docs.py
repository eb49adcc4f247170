import runpy
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_picture_of_the_dag_is_what_the_compiled_pipeline_says():
    drawing = runpy.run_path(str(ROOT / "docs" / "draw_dag.py"))
    assert (ROOT / "docs" / "dag.svg").read_text(encoding="utf-8") == drawing["draw"]()
    assert {box for edge in drawing["edges"]() for box in edge} == set(drawing["POSITIONS"])


def test_the_page_of_parameters_is_what_is_generated():
    listing = runpy.run_path(str(ROOT / "docs" / "list_parameters.py"))
    assert (ROOT / "docs" / "parameters.md").read_text(encoding="utf-8") == listing["page"]()
