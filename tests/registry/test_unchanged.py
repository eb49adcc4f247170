import json
import shutil

import pytest

pytest.importorskip("mlflow")

from ragtune.knowledge.manifest import MANIFEST, METRIC, Manifest, write_manifest
from ragtune.registry.connection import connected
from ragtune.registry.mlflow import register
from ragtune.registry.unchanged import run_key, version_of_run
from ragtune.settings.pipeline import PARAMETERS

NAME, KEY = "countries", "k" * 64
VALUES = {name: setting.default for name, setting in PARAMETERS.items()}
VALUES |= {"questions": "questions.jsonl", "corpus": "corpus.jsonl", "training_options": {"weight_decay": 0.1}}
SOURCES = ("hash of the questions", "hash of the corpus", "question encoder", "passage encoder", "generator")


@pytest.fixture
def workspace(tmp_path):
    """A workspace with the knowledge base that the models of `make_model` answer from."""
    root = tmp_path / "workspace" / "knowledge_bases" / "passages"
    manifest = Manifest("kb_v1", "passages", "e", "f" * 64, 2, "float32", METRIC, "FLAT", 1, "a" * 64, "2026")
    write_manifest(manifest, root / "kb_v1" / MANIFEST)
    return tmp_path / "workspace"


@pytest.fixture
def registered(make_run, tracking_uri, workspace):
    """Register a model that answers `right` of 200 questions, judged by a champion; the registration."""
    said = {"path": str(workspace / "knowledge_bases" / "passages"), "version": "kb_v1"}
    said |= {"content_hash": "a" * 64, "encoder_fingerprint": "f" * 64}

    def do(right, name, champion=None, run_key=KEY, problem=""):
        model, evaluation = make_run(right, name, champion)
        if problem:
            facts = {"champion": {"version": champion[0], "problem": problem}}
            (evaluation / "facts.json").write_text(json.dumps(facts))
        told = json.loads((model / "ragtune.json").read_text())
        told["lineage"]["knowledge_base"] = said
        (model / "ragtune.json").write_text(json.dumps(told))
        return register(model, evaluation, NAME, tracking_uri, workspace=workspace, run_key=run_key)

    return do


@pytest.fixture
def same_run(tracking_uri, workspace):
    return lambda key=KEY, workspace=str(workspace): version_of_run(NAME, tracking_uri, key, workspace)


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({"questions": "s3://bucket/today.jsonl", "generator": "a/copy"}, True),  # whose contents count
        (
            {"train_memory": "96Gi", "node_selector": {"pool": "gpu"}, "when_unchanged": "skip", "when_busy": "refuse"},
            True,
        ),
        ({"max_steps": 999}, False),
        ({"training_options": {"weight_decay": 0.2}}, False),
        ({"promote": "force"}, False),  # asks for another outcome
        ({"gpus": "2"}, False),  # a step then sees twice as many questions
    ],
)
def test_a_runs_key_holds_all_that_its_outcome_depends_on(changed, same):
    assert (run_key(VALUES | changed, SOURCES) == run_key(VALUES, SOURCES)) is same


@pytest.mark.parametrize("place", range(len(SOURCES)))
def test_a_runs_key_follows_every_source_and_model(place):
    changed = [*SOURCES]
    changed[place] = "other"
    assert run_key(VALUES, changed) != run_key(VALUES, SOURCES)


def test_a_champion_is_what_the_same_run_would_lead_to(registered, same_run):
    assert same_run() == ""
    registered(100, "first")
    assert same_run() == "version 1 of countries, the champion"
    assert same_run("another key") == ""


def test_a_version_that_lost_against_todays_champion_would_lose_again(registered, same_run):
    registered(100, "first", run_key="of another run")
    registered(100, "second", champion=("1", 100))
    told = same_run()
    assert told.startswith("version 2 of countries, which is not champion: against the champion, version 1, EM differs")


def test_against_another_champion_it_might_win(registered, same_run, tracking_uri):
    registered(100, "first", run_key="of another run")
    registered(100, "second", champion=("1", 100))
    registered(150, "third", champion=("1", 100), run_key="of a third run")
    assert same_run() == ""
    with connected(tracking_uri) as client:
        client.delete_registered_model_alias(NAME, "champion")
    assert same_run() == ""


def test_against_a_champion_that_could_not_be_evaluated_it_might_win_too(registered, same_run):
    registered(100, "first", run_key="of another run")
    registered(150, "second", champion=("1", 100), problem="its knowledge base is gone")
    assert same_run() == ""


@pytest.mark.parametrize("gone", ["models", "knowledge_bases"])
def test_a_run_is_done_again_where_its_model_or_knowledge_base_is_gone(registered, same_run, workspace, gone):
    registered(100, "first")
    shutil.rmtree(workspace / gone)
    assert same_run() == ""


def test_without_a_workspace_the_knowledge_base_is_kept_beside_the_model(registered, same_run, workspace):
    registered(100, "first")
    shutil.rmtree(workspace / "knowledge_bases")
    assert same_run(workspace="") == "version 1 of countries, the champion"


def test_a_model_that_two_runs_lead_to_is_known_by_the_last_one(registered, same_run):
    registered(100, "first", run_key="of another run")
    registered(100, "first")
    assert same_run() == "version 1 of countries, the champion"
