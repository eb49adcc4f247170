import json
import re
import shlex

import pytest

import pipeline
from ragtune.errors import RagtuneError
from ragtune.kubeflow import commands
from ragtune.kubeflow.package import Package

RUN = "[0-9a-f-]{36}"


@pytest.fixture
def command(server, compiled, monkeypatch, capsys):
    """pipeline.py's command line against the server; gives the exit status and both outputs."""
    monkeypatch.setattr(
        Package, "compile", lambda of, *images: compiled
    )  # half a second each; test_package.py compiles
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", server.host)

    def run(*arguments):
        status = pipeline.main(list(arguments))
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def test_submit_waits_for_the_run_and_shows_its_metrics(server, command):
    server.play(
        ("RUNNING", {"check-inputs": "SUCCEEDED"}), ("SUCCEEDED", {"evaluate-rag": ("SUCCEEDED", "rag-x-1", 60)})
    )
    names = [f"{name}_{side}" for name in ("em", "f1", "recall@5") for side in ("before", "after")]
    told = ", ".join(f'"{name}": 0.5' for name in names)
    server.logs["rag-x-system-container-impl-1"] = f'metrics: {{{told}, "em_closed_book": 0.06}}\n'
    wanted = ("--params", "params/demo.yaml", "--set", "max_steps=20", "--experiment", "demo", "--name", "by hand")
    status, out, err = command("submit", *wanted, "--wait", "--look-every", "0.01")
    assert (status, err) == (0, "")
    assert re.search(
        rf"uploaded the version rag-finetuning\nrun {RUN} in the experiment demo\n{server.host}/#/runs", out
    )
    assert "[1/10] check_inputs" in out and re.search(r"EM +0\.500 +0\.500 +\+0\.000", out)
    run = next(iter(server.runs.values()))
    assert (run["display_name"], run["runtime_config"]["parameters"]["train_max_steps"]) == ("by hand", 20)
    assert "cluster_workspace" not in run["runtime_config"]["parameters"]  # what is not given is the pipeline's default


def test_submit_ends_with_1_where_the_run_does_not_succeed(server, command):
    server.play(("CANCELED", {}))
    status, _, err = command("submit", "--params", "params/demo.yaml", "--wait")
    assert status == 1 and "error: run" in err and "CANCELED" in err


def test_a_package_that_mounts_a_volume_is_not_run_without_one_nor_the_other_way_round(server, command, tmp_path):
    servers = ["milvus_uri=http://127.0.0.1:1", "tracking_uri=http://127.0.0.1:1", "workspace_volume="]
    sets = [part for each in servers for part in ("--set", each)]
    package = ("--package", "compiled/rag_finetuning.yaml")
    status, _, err = command("submit", "--params", "params/demo.yaml", *sets, *package)
    assert status == 1 and "rag_finetuning.yaml: mounts a volume; compile one with --no-volume" in err
    assert pipeline.main(["compile", "--no-volume", "--output", str(tmp_path / "bare.yaml")]) == 0
    package = ("--package", str(tmp_path / "bare.yaml"))
    status, _, err = command("submit", "--params", "params/demo.yaml", *package)
    assert status == 1 and "bare.yaml: mounts no volume; add --set workspace_volume=" in err
    assert server.requests == []
    status, out, _ = command("submit", "--params", "params/demo.yaml", *sets, *package)
    assert status == 0 and "uploaded the version rag-finetuning-without-volume" in out


def test_submit_checks_parameters_before_anything_is_sent(server, command):
    status, _, err = command("submit", "--params", "params/demo.yaml", "--set", "n_docs=0")
    assert status == 1 and "n_docs" in err
    assert server.requests == []


def test_schedule_makes_replaces_pauses_resumes_and_deletes(server, command):
    wanted = ("schedule", "nightly", "--params", "params/demo.yaml")
    status, out, _ = command(*wanted, "--cron", "0 3 * * 1", "--time-zone", "Europe/Berlin")
    assert status == 0 and "the newest, today rag-finetuning" in out and "cron 0 0 3 * * 1" in out
    assert len(re.findall(r"next     Mon 20\d\d-\d\d-\d\d 03:00:00 CES?T", out)) == 3
    assert "UTC, unless its CRON_SCHEDULE_TIMEZONE is set" in out
    status, out, _ = command(*wanted, "--every", "12h", "--pinned")
    assert status == 0 and "every 43200 s" in out and re.search(f"retired  {RUN}", out)
    (made,) = server.schedules.values()
    assert made["runtime_config"]["parameters"]["registry_when_unchanged"] == "skip"  # unless the file says train
    assert command("schedule", "nightly", "--pause")[:2] == (0, "nightly: paused\n")
    assert re.search(f"paused   until `python pipeline.py schedule {RUN} --resume`", command("schedules")[1])
    assert command("schedule", "nightly", "--resume")[:2] == (0, "nightly: resumed\n")
    assert command("schedules")[1].count("next     ") == 3
    assert command("schedule", "nightly", "--delete")[:2] == (0, "nightly: deleted\n")
    assert command("schedules") == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--cron", "0 3 * *", "--params", "params/demo.yaml"), "has 4 fields"),
        (("--cron", "0 3 * * *"), "--params: a schedule needs a file of parameters"),
        (("--cron", "0 3 * * *", "--params", "params/demo.yaml", "--time-zone", "Mars"), "is no time zone"),
    ],
)
def test_schedule_refuses_before_anything_is_sent(server, command, arguments, told):
    status, _, err = command("schedule", "nightly", *arguments)
    assert status == 1 and told in err
    assert server.requests == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("schedule", "nightly"),
        ("schedule", "nightly", "--cron", "0 3 * * *", "--pause"),
        ("schedule", "nightly", "--every", "soon"),
        ("submit", "--params", "params/demo.yaml", "--token", "abc"),
        ("stop",),
    ],
)
def test_a_command_that_is_not_whole_is_refused_by_its_parser(server, command, arguments):
    with pytest.raises(SystemExit):
        command(*arguments)
    assert server.requests == []


def test_runs_lists_looks_at_one_and_stop_stops_it(server, command):
    command("submit", "--params", "params/demo.yaml", "--name", "one")
    status, out, _ = command("runs")
    assert status == 0 and re.fullmatch(rf"{RUN}  2026-11-21 00:00  PENDING    one\n", out)
    run_id = out.split()[0]
    assert command("stop", run_id)[:2] == (0, f"{run_id}: is stopping\n")
    status, _, err = command("runs", run_id, "--wait", "--look-every", "0.01")
    assert status == 1 and "CANCELED" in err
    assert command("stop", run_id)[:2] == (0, f"{run_id}: had ended already, CANCELED\n")
    assert "CANCELED" in command("runs", run_id)[1]


def test_ctrl_c_leaves_the_run_going_and_says_so(server, command, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands.watching, "wait", interrupt)
    status, _, err = command("submit", "--params", "params/demo.yaml", "--wait")
    assert status == 130 and "the run goes on; to stop it: python pipeline.py stop" in err


def test_the_token_is_never_on_the_command_line_or_in_an_output(server, command, tmp_path):
    (tmp_path / "token").write_text("of-a-secret")
    server.token = "another"
    status, out, err = command("runs", "--token-file", str(tmp_path / "token"))
    assert status == 1 and "401" in err and "of-a-secret" not in out + err


def test_a_compiled_file_can_be_given_and_compiling_gives_the_same(compiled, server, command, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", server.host)
    assert Package.compile(pipeline.rag_finetuning).digest == compiled.digest
    assert Package.compile(pipeline.rag_finetuning, {"registry": "registry.example.org/me"}).digest != compiled.digest
    given = ("submit", "--params", "params/demo.yaml", "--package", str(pipeline.COMPILED))
    status, out, _ = command(*given)
    assert status == 0 and "note: the cluster's nodes must have ragtune-data" in out
    assert "--package" in command(*given, "--registry", "registry.example.org/me")[2]
    with pytest.raises(RagtuneError, match=r"no\.yaml: cannot be read"):
        Package.read("no.yaml")


def test_every_command_and_the_example_of_the_page_run_as_written(server, command, compiled, capsys):
    page = (pipeline.COMPILED.parents[1] / "docs" / "cluster.md").read_text(encoding="utf-8")
    metrics = {f"{name}_{side}": 0.5 for name in ("em", "f1", "recall@5") for side in ("before", "after")}
    server.logs["rag-x-system-container-impl-1"] = f"metrics: {json.dumps(metrics)}\n"
    ran = []
    for block in re.findall(r"^```shell\n(.*?)^```", page, re.S | re.M):
        for line in block.splitlines():
            server.play(("SUCCEEDED", {"evaluate-rag": ("SUCCEEDED", "rag-x-1", 60)}))
            words = shlex.split(line.replace("RUN", next(iter(server.runs), "none")))
            assert words[:2] == ["python", "pipeline.py"]
            status, _, err = command(*words[2:])
            assert status == 0, f"{line}: {err}"
            ran.append(words[2])
    assert set(ran) == set(commands.COMMANDS)
    (example,) = re.findall(r"^```py\n(.*?)^```", page, re.S | re.M)
    names = {}
    exec(compile(example.replace("http://localhost:8888", server.host), "cluster.md", "exec"), names)
    assert names["metrics"] == metrics and [one["display_name"] for one in server.schedules.values()] == ["weekly"]
