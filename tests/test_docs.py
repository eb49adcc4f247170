import json
import runpy
import shlex
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_picture_of_the_dag_is_what_the_compiled_pipeline_says():
    drawing = runpy.run_path(str(ROOT / "docs" / "draw_dag.py"))
    assert (ROOT / "docs" / "dag.svg").read_text(encoding="utf-8") == drawing["draw"]()
    assert {box for edge in drawing["edges"]() for box in edge} == set(drawing["POSITIONS"])


def test_the_page_of_parameters_is_what_is_generated():
    listing = runpy.run_path(str(ROOT / "docs" / "list_parameters.py"))
    assert (ROOT / "docs" / "parameters.md").read_text(encoding="utf-8") == listing["page"]()


def test_the_page_of_scale_says_what_was_measured():
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    table = page[page.index("## Measured") : page.index("## Computed")]

    def result(name):
        return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))

    disk, large = result("disk"), result("index_recall_large")["lines"]
    version = sum(disk[f"{part}_bytes"] for part in ("vectors", "offline_source", "passages"))
    exact = next(line for line in large if line["rows"] == 50_000 and line["index"] == "exact search")
    for shown in (
        *(f"{disk[name]:,}" for name in disk if name.endswith("_bytes")),
        f"{result('embedding')['ragtune_bfloat16_passages_per_s']} passages/s",
        f"{result('ingestion')['ours_rows_per_s']:,} rows/s",
        f"{result('ingestion')['unchanged_seconds']:.1f} s",
        f"{exact['questions_per_s']:,.0f} questions/s",
        f"{result('retrieval')['ours_16_at_once_per_s']:.0f} questions/s",
        f"{result('overlap')['overlapped_search_fraction']:.1%}".replace("%", " %"),
    ):
        assert shown in table, shown
    each = version + disk["embedding_cache_bytes"]
    for millions in (1, 5, 21):
        sizes = [each, each + disk["milvus_lite_bytes"], version]
        row = [f"{size * millions / 1e3:.0f} GB" for size in sizes]
        lite = row[1] if millions < 21 else "–"
        assert f"| {millions} million | {row[0]} | {lite} | {row[2]} |" in page


def test_the_commands_of_a_federation_are_ones_that_flower_knows():
    from flwr.superlink.cli.flower_superlink import _parse_args_run_superlink
    from flwr.supernode.cli.flower_supernode import _parse_args_run_supernode

    page = (ROOT / "docs" / "federation.md").read_text(encoding="utf-8")
    commands = [shlex.split(line) for line in page.splitlines() if line.startswith(("flower-", "flwr "))]
    parsers = {"flower-superlink": _parse_args_run_superlink, "flower-supernode": _parse_args_run_supernode}
    assert [command[0] for command in commands] == [*parsers, "flwr"]
    for name, *words in commands[:2]:
        parsers[name]().parse_args(words)
    app = tomllib.loads((ROOT / "deploy" / "federation" / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["flwr"]
    run, folder, _, option, settings, *_ = commands[2][1:]
    assert (run, folder, option) == ("run", "deploy/federation", "--run-config")
    assert {each.partition("=")[0] for each in settings.split()} == set(app["app"]["config"])
