import dataclasses
import json
import logging
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from urllib.request import urlopen

import pytest

pytest.importorskip("mlflow")

from ragtune.errors import RegistryError, StorageError
from ragtune.files import content_hash
from ragtune.knowledge.leases import live_holders
from ragtune.knowledge.manifest import MANIFEST, METRIC, Manifest, write_manifest
from ragtune.knowledge.pointers import resolve
from ragtune.locks import locked
from ragtune.registry import mlflow as registration
from ragtune.registry.champion import champion_model, todays_champion
from ragtune.registry.connection import connected
from ragtune.registry.mlflow import register
from ragtune.registry.promotion import decide_promotion

NAME = "countries"


def test_the_first_version_is_champion_and_carries_figures_and_lineage(make_run, tracking_uri):
    model, evaluation = make_run(100)
    result = register(model, evaluation, NAME, tracking_uri, {"questions_fingerprint": "77"})
    assert (result.version, result.promoted) == (1, True)
    with connected(tracking_uri) as client:
        version = client.get_model_version_by_alias(NAME, "champion")
        run = client.get_run(version.run_id)
    assert content_hash(version.source.removeprefix("file://")) == version.tags["model_hash"] == content_hash(model)
    assert version.tags["questions_fingerprint"] == "77"
    assert version.tags["knowledge_base.version"] == "kb_v1"
    assert (version.tags["image"], version.tags["git_revision"]) == ("registry/ragtune-train@sha256:12", "abc123")
    assert "against its own base" in version.tags["ragtune.promotion_reason"]
    assert version.tags["ragtune.baseline"] == "false"
    assert run.data.metrics["em_after"] == 0.5
    assert run.data.metrics["recall_at_5_after"] == 0.9
    assert run.data.params == {"config.n_docs": "5", "parameters.learning_rate": "3e-05"}
    assert run.info.status == "FINISHED"


def test_artifacts_lie_beside_the_database_and_no_weights_among_them(make_run, tracking_uri, tmp_path):
    model, evaluation = make_run(100)
    (evaluation / "report.html").write_text("<h1>better</h1>")
    register(model, evaluation, NAME, tracking_uri)
    files = {path.name for path in (tmp_path / "registry" / "mlflow-artifacts").rglob("*") if path.is_file()}
    assert files == {"metrics.json", "predictions.jsonl", "facts.json", "lineage.json", "report.html"}


def test_the_champion_outlives_the_run_that_trained_it(make_run, tracking_uri):
    model, evaluation = make_run(100)
    register(model, evaluation, NAME, tracking_uri)
    shutil.rmtree(model.parent)
    kept = Path(champion_model(NAME, tracking_uri).removeprefix("file://"))
    assert (kept / "generator" / "model.safetensors").read_text() == "weights of run"


def test_a_workspace_takes_the_model_where_the_database_is_elsewhere(make_run, tracking_uri, tmp_path):
    result = register(*make_run(100), NAME, tracking_uri, workspace=tmp_path / "workspace")
    assert result.model_uri.startswith((tmp_path / "workspace" / "models" / NAME).as_uri())


def test_a_registered_models_knowledge_base_is_pinned(make_run, tracking_uri, tmp_path):
    model, evaluation = make_run(100)
    root = tmp_path / "workspace" / "knowledge_bases" / "passages"
    manifest = Manifest("kb_v1", "passages", "e", "f" * 64, 2, "float32", METRIC, "FLAT", 1, "ab12", "2026")
    write_manifest(manifest, root / "kb_v1" / MANIFEST)
    description = json.loads((model / "ragtune.json").read_text())
    description["lineage"]["knowledge_base"]["path"] = str(root)
    (model / "ragtune.json").write_text(json.dumps(description))
    register(model, evaluation, NAME, tracking_uri, workspace=tmp_path / "workspace")
    shutil.rmtree(tmp_path / "workspace" / "models")
    (why,) = live_holders(root / "kb_v1", 0)
    assert why.startswith(f'model "{NAME}" version 1 in {tracking_uri}, until ')


def test_a_better_model_takes_over_and_an_equal_one_does_not(make_run, tracking_uri):
    register(*make_run(100, "first"), NAME, tracking_uri)
    equal = register(*make_run(101, "equal", champion=("1", 100)), NAME, tracking_uri)
    assert not equal.promoted and "not above zero" in equal.reason
    better = register(*make_run(150, "better", champion=("1", 100)), NAME, tracking_uri)
    assert better.promoted and "the champion, version 1," in better.reason
    assert champion_model(NAME, tracking_uri) == better.model_uri


def test_another_score_decides_where_the_evaluation_says_so(make_run, tracking_uri):
    """A retriever: its generator, which did not learn, answers no better."""
    model, evaluation = make_run(20)
    (evaluation / "facts.json").write_text(json.dumps({"deciding_metric": "recall@1"}))
    rows = [json.loads(line) for line in (evaluation / "predictions.jsonl").read_text().splitlines()]
    lines = (json.dumps(row | {"recall@1_before": 0.0, "recall@1_after": float(n < 50)}) for n, row in enumerate(rows))
    (evaluation / "predictions.jsonl").write_text("\n".join(lines) + "\n")
    result = register(model, evaluation, NAME, tracking_uri)
    assert result.promoted and "recall@1 differs by +25.0 points" in result.reason


def test_a_first_model_no_better_than_its_base_is_a_baseline(make_run, tracking_uri):
    """Seen: 80 % before, 10 % after, and champion."""
    first = register(*make_run(10, "first"), NAME, tracking_uri)
    assert (first.version, first.promoted) == (1, False)
    with pytest.raises(RegistryError, match="is champion"):
        champion_model(NAME, tracking_uri)
    with connected(tracking_uri) as client:
        assert client.get_model_version(NAME, "1").tags["ragtune.baseline"] == "true"
    assert register(*make_run(100, "second"), NAME, tracking_uri).promoted


def test_of_two_candidates_judged_against_one_champion_the_first_to_be_registered_stays(make_run, tracking_uri):
    register(*make_run(50, "first"), NAME, tracking_uri)
    better, worse = make_run(150, "better", champion=("1", 50)), make_run(100, "worse", champion=("1", 50))
    assert register(*better, NAME, tracking_uri).promoted
    late = register(*worse, NAME, tracking_uri)
    assert not late.promoted and "has changed since the evaluation (then version 1, now version 2)" in late.reason
    make_run(160, "worse", champion=("2", 100))  # evaluated again, and better after all
    again = register(*worse, NAME, tracking_uri)
    assert (again.version, again.promoted) == (3, True)


def test_a_new_test_set_does_not_lock_the_champion_in(make_run, tracking_uri):
    """Both were asked today's questions, whatever the champion was asked when it was registered."""
    model, evaluation = make_run(100, "first")
    register(model, evaluation, NAME, tracking_uri)
    model, evaluation = make_run(150, "next", champion=("1", 80))
    lines = (evaluation / "predictions.jsonl").read_text()
    (evaluation / "predictions.jsonl").write_text(lines.replace("What is", "Whatever is"))
    assert register(model, evaluation, NAME, tracking_uri).promoted


def test_a_worse_model_can_be_forced_and_a_better_one_held_back(make_run, tracking_uri):
    register(*make_run(100, "first"), NAME, tracking_uri)
    worse = make_run(50, "worse", champion=("1", 100))
    assert not register(*worse, NAME, tracking_uri).promoted
    forced = register(*worse, NAME, tracking_uri, promote="force")
    assert (forced.version, forced.promoted) == (2, True)
    assert forced.reason.startswith("forced, although against the champion, version 1,")
    better = make_run(150, "better", champion=("2", 50))
    held = register(*better, NAME, tracking_uri, promote="never")
    assert not held.promoted and held.reason.startswith("promote=never; ")
    assert register(*better, NAME, tracking_uri, promote="auto").promoted


def test_a_minimum_of_questions_is_kept(make_run, tracking_uri):
    result = register(*make_run(100), NAME, tracking_uri, min_questions=201)
    assert not result.promoted and "fewer questions than min_test_questions=201" in result.reason


def test_registering_twice_gives_the_same_version_and_leaves_a_later_champion(make_run, tracking_uri):
    first = make_run(100, "first")
    before = register(*first, NAME, tracking_uri)
    assert register(*first, NAME, tracking_uri) == before
    later = register(*make_run(150, "later", champion=("1", 100)), NAME, tracking_uri)
    told = []
    again = register(*first, NAME, tracking_uri, mirror=told.append)
    assert again == dataclasses.replace(before, promoted=False) == told[0]
    assert champion_model(NAME, tracking_uri) == later.model_uri


def test_a_new_evaluation_of_the_champion_leaves_it_champion(make_run, tracking_uri):
    register(*make_run(100, "first"), NAME, tracking_uri)
    again = register(*make_run(90, "first", champion=("1", 90)), NAME, tracking_uri)
    assert (again.version, again.promoted, again.reason) == (1, True, "it is the champion already")
    with connected(tracking_uri) as client:
        run = client.get_run(again.run_id)
    assert run.data.metrics["em_after"] == 0.45


@pytest.mark.parametrize("cut", ["create_model_version", "set_registered_model_alias", "set_model_version_tag"])
def test_a_registration_cut_short_is_completed(make_run, tracking_uri, monkeypatch, cut):
    from mlflow import MlflowClient

    run = make_run(100)

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MlflowClient, cut, killed)
        register(*run, NAME, tracking_uri)
    result = register(*run, NAME, tracking_uri)
    assert (result.version, result.promoted) == (1, True)
    with connected(tracking_uri) as client:
        assert len(client.search_model_versions(f"name='{NAME}'")) == 1
        assert client.get_model_version_by_alias(NAME, "champion").tags["ragtune.promoted"] == "true"


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_registration_that_did_not_wait_is_found_out_and_left_in_place(
    make_run, tracking_uri, tmp_path, monkeypatch, moment
):
    """Two runs on one server with a workspace each have no lock in common."""
    from mlflow import MlflowClient

    register(*make_run(50, "first"), NAME, tracking_uri)
    register(*make_run(60, "other", champion=("1", 50)), NAME, tracking_uri, promote="never")
    ours = make_run(150, "ours", champion=("1", 50))
    move = MlflowClient.set_registered_model_alias

    def elsewhere(*args, **kwargs):
        patch.undo()
        with connected(tracking_uri) as client:
            move(client, NAME, "champion", "2")

    def decided(*args, **settings):
        decision = decide_promotion(*args, **settings)
        elsewhere()
        return decision

    def moved(client, *args):
        move(client, *args)
        elsewhere()

    with monkeypatch.context() as patch:
        if moment == "before":
            patch.setattr(registration, "decide_promotion", decided)
        else:
            patch.setattr(MlflowClient, "set_registered_model_alias", moved)
        late = register(*ours, NAME, tracking_uri)
    assert not late.promoted
    assert "which did not wait for this one, made version 2 champion meanwhile; run the pipeline again" in late.reason
    with connected(tracking_uri) as client:
        assert str(client.get_model_version_by_alias(NAME, "champion").version) == "2"
        assert client.get_model_version(NAME, "3").tags["ragtune.promoted"] == "false"


def test_a_run_id_stands_for_one_model(make_run, tracking_uri):
    register(*make_run(100, "first"), NAME, tracking_uri, run_id="run-7")
    with pytest.raises(RegistryError, match="run-7 has been registered with another model"):
        register(*make_run(100, "other"), NAME, tracking_uri, run_id="run-7")


def test_a_champion_that_could_not_be_evaluated_stays(make_run, tracking_uri):
    with connected(tracking_uri) as client:
        client.create_registered_model(NAME)
        by_hand = client.create_model_version(NAME, "s3://models/by-hand")
        client.set_registered_model_alias(NAME, "champion", by_hand.version)
    model, evaluation = make_run(150)
    (evaluation / "facts.json").write_text(json.dumps({"champion": {"version": "1", "problem": "no such bucket"}}))
    result = register(model, evaluation, NAME, tracking_uri)
    assert not result.promoted
    assert "version 1, could not be evaluated (no such bucket); fix that" in result.reason
    assert register(model, evaluation, NAME, tracking_uri, promote="force").promoted


def test_a_model_that_lies_elsewhere_is_referenced_there(make_run, tracking_uri):
    assert register(*make_run(1), NAME, tracking_uri, model_uri="s3://models/7").model_uri == "s3://models/7"


def test_a_folder_serves_as_tracking_uri(make_run, empty_database, tmp_path):
    shutil.copy(empty_database, tmp_path)
    register(*make_run(100), NAME, str(tmp_path))
    assert champion_model(NAME, f"sqlite:///{tmp_path}/mlflow.db")


def test_registering_is_quiet(make_run, tmp_path):
    model, evaluation = make_run(100)
    script = (
        "from ragtune.registry.mlflow import register\n"
        f"register({str(model)!r}, {str(evaluation)!r}, 'quiet', 'sqlite:///{tmp_path}/new/mlflow.db')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_levels_of_loggers_and_the_environment_are_as_before(make_run, tracking_uri):
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    levels, environment = logging.getLogger("alembic").level, dict(os.environ)
    register(*make_run(100), NAME, tracking_uri)
    assert logging.getLogger("alembic").level == levels
    assert dict(os.environ) == environment


def test_a_server_out_of_reach_is_an_error_within_seconds(make_run):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        place = f"http://user:secret@127.0.0.1:{unused.getsockname()[1]}"
    start = time.monotonic()
    with pytest.raises(RegistryError, match=r"cannot be reached: .*refused") as caught:
        register(*make_run(100), NAME, place)
    assert time.monotonic() - start < 20
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "message"),
    [("file:///somewhere", "keeps no plain files"), ("", "keeps no plain files"), ("nosql://x", "nosql")],
)
def test_a_tracking_uri_of_no_use_is_an_error(make_run, uri, message):
    with pytest.raises(RegistryError, match=message):
        register(*make_run(100), NAME, uri)


def test_a_folder_that_cannot_be_made_is_an_error(make_run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RegistryError, match="cannot be made"):
        register(*make_run(100), NAME, f"sqlite:///{tmp_path}/file/mlflow.db")


def test_an_evaluation_that_is_not_whole_is_an_error(make_run, tracking_uri):
    model, evaluation = make_run(100)
    (evaluation / "metrics.json").unlink()
    with pytest.raises(RegistryError, match="no whole evaluation"):
        register(model, evaluation, NAME, tracking_uri)


@pytest.mark.parametrize("name", ["a/b'", "..", ""])
def test_a_name_that_mlflow_or_a_folder_would_refuse_is_an_error(make_run, tracking_uri, name):
    with pytest.raises(RegistryError, match=f'model name "{name}": use letters'):
        register(*make_run(1), name, tracking_uri)


def test_first_registrations_at_once_all_succeed(make_run, tmp_path):
    """MLflow's own migrations of a new SQLite database fail in all processes but one, and may break it for good."""
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["ragtune.registry.mlflow", "mlflow"])  # imported once: they start together
    with ProcessPoolExecutor(4, processes) as pool:
        runs = [make_run(100 + number, f"run{number}") for number in range(4)]
        done = [pool.submit(register, *run, NAME, uri) for run in runs]
        assert sorted(registered.result().version for registered in done) == [1, 2, 3, 4]


def test_a_process_killed_while_it_makes_the_database_leaves_none(tmp_path, monkeypatch):
    from mlflow import MlflowClient

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MlflowClient, "search_experiments", killed)
        with connected(str(tmp_path)):
            pass
    assert not (tmp_path / "mlflow.db").exists()


def test_a_database_that_is_none_is_an_error_with_a_way_out(make_run, tmp_path):
    (tmp_path / "mlflow.db").write_text("not SQLite at all, but long enough to be looked at" * 100)
    with pytest.raises(RegistryError, match=r"mlflow\.db.*move it away"):
        register(*make_run(100), NAME, str(tmp_path))


def test_a_mirror_is_told_before_the_next_registration(make_run, tracking_uri, tmp_path):
    def tell(registration):
        told.append(registration)
        with pytest.raises(StorageError), locked(tmp_path / "registry" / ".register.lock"):
            pass

    told = []
    assert register(*make_run(100), NAME, tracking_uri, mirror=tell) == told[0]


@pytest.mark.slow
def test_a_real_server_takes_the_model_and_its_knowledge_base_with_it(make_run, tmp_path, empty_database):
    base = tmp_path / "base"
    manifest = Manifest("kb_v1", "passages", "e", "f" * 64, 2, "float32", METRIC, "FLAT", 1, "ab12", "2026")
    write_manifest(manifest, base / "kb_v1" / MANIFEST)
    shutil.copy(empty_database, tmp_path / "server.db")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/server.db",
        "--artifacts-destination",
        str(tmp_path / "a"),
    ]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with open(tmp_path / "server.log", "w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path, env=environment)
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", tmp_path / "server.log")
        register(*make_run(100, "first"), NAME, f"http://127.0.0.1:{port}")
        better = register(
            *make_run(150, "better", champion=("1", 100)),
            NAME,
            f"http://127.0.0.1:{port}",
            knowledge_base=base / "kb_v1",
        )
        with todays_champion(NAME, f"http://127.0.0.1:{port}") as champion:
            assert resolve(champion.knowledge_base)[1] == manifest
    finally:
        server.terminate()
        server.wait(timeout=20)
    assert (better.version, better.promoted) == (2, True)
    assert better.model_uri.startswith("mlflow-artifacts:/")
    assert len(list((tmp_path / "a").rglob("model.safetensors"))) == 2


def _wait_for(url, log, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            return urlopen(url, timeout=2)
        except OSError:
            time.sleep(0.3)
    pytest.fail(f"the server did not come up: {log.read_text()}")
