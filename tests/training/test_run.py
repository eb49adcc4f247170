import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from datasets import load_from_disk

from ragtune import __version__
from ragtune.errors import TrainingError
from ragtune.models.checkpoint import load_model, read_description, save_model
from ragtune.models.rag import RagConfig, RagModel
from ragtune.questions.learnt import among, read_learnt
from ragtune.training import run as run_module
from ragtune.training.arguments import RagTrainingArguments, RunFiles
from ragtune.training.pairs import open_pairs
from ragtune.training.prepare import Prepared, base_model
from ragtune.training.run import publish, run

PARAMETERS = {"max_steps": 2, "eval_steps": 1, "temperature": 0.05, "n_docs": 3, "report_to": "none"}


@pytest.fixture
def files(world, knowledge_base_folder, tmp_path):
    def files(**changes):
        folders = {"output_folder": tmp_path / "model", "work_folder": tmp_path / "work"}
        folders |= {"closed_book_folder": tmp_path / "closed_book"}
        folders = {name: str(folder) for name, folder in folders.items()} | world.parts | changes
        return RunFiles(world.pairs, knowledge_base_folder, **folders)

    return files


def test_what_was_trained_is_not_trained_again_if_only_the_end_was_missing(files, tmp_path, capsys, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(run_module, "publish", killed)
        run(files(), RagTrainingArguments(**PARAMETERS))
    assert "training: 2 of 2 steps" in capsys.readouterr().err
    with pytest.raises(KeyboardInterrupt):
        run(files(), RagTrainingArguments(**PARAMETERS), published=killed)
    results = run(files(), RagTrainingArguments(**PARAMETERS))
    assert "training:" not in capsys.readouterr().err
    assert results["steps"] == results["closed_book_steps"] == 2
    assert {path.name for path in tmp_path.iterdir()} == {"model", "closed_book", "work"}


def test_a_run_killed_while_it_drops_its_work_folder_leaves_no_half_that_is_published_again(
    files, tmp_path, monkeypatch
):
    work, remove = tmp_path / "work" / "run", shutil.rmtree
    (work / "model").mkdir(parents=True)
    (work / "model" / "training_results.json").write_text('{"steps": 2}')
    args = RagTrainingArguments(output_dir=str(tmp_path / "run"), **PARAMETERS)
    prepared = Prepared(files(closed_book_folder=""), args, None, None, None, {}, {}, work)

    def killed(folder, **options):
        if Path(folder).parent == work.parent:
            raise KeyboardInterrupt
        remove(folder, **options)

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        publish(prepared)
    assert (tmp_path / "model" / "training_results.json").exists()
    assert not work.exists()


def test_the_model_is_published_last(files, tmp_path, monkeypatch):
    """Who sees it may take the baseline for whole."""
    work, copied = tmp_path / "work" / "run", []
    for name in ("model", "closed_book_model"):
        (work / name).mkdir(parents=True)
    args = RagTrainingArguments(output_dir=str(tmp_path / "run"), **PARAMETERS)
    copy = shutil.copytree
    monkeypatch.setattr(shutil, "copytree", lambda source, to: copied.append(source.name) or copy(source, to))
    publish(Prepared(files(), args, None, None, None, {}, {}, work))
    assert copied == ["closed_book_model", "model"]
    assert (tmp_path / "model").is_dir()


@pytest.mark.parametrize("best", [True, False])
def test_the_results_are_of_the_step_whose_weights_are_kept(files, best):
    results = run(files(closed_book_folder=""), RagTrainingArguments(load_best_model_at_end=best, **PARAMETERS))
    assert ("best_step" in results) == best
    assert results.get("last_step") == (None if best else 2)


def test_a_model_knows_where_it_comes_from(files, knowledge_base_folder, tmp_path):
    run(files(closed_book_folder=""), RagTrainingArguments(seed=5, **PARAMETERS))
    description = read_description(tmp_path / "model")
    lineage = description["lineage"]
    assert lineage["knowledge_base"]["path"] == knowledge_base_folder
    assert lineage["knowledge_base"]["version"] == "kb_v1"
    assert lineage["parameters"]["seed"] == 5
    assert lineage["ragtune_version"] == __version__
    assert set(lineage["base_model"]) == {"question_encoder", "passage_encoder", "generator"}
    assert description["config"]["n_docs"] == 3


def test_a_model_knows_the_questions_that_it_learnt_from(files, world, tmp_path):
    run(files(), RagTrainingArguments(**PARAMETERS))
    pairs = load_from_disk(world.pairs)
    asked = [*pairs["train"]["question"], *pairs["validation"]["question"]]
    for folder in (tmp_path / "model", tmp_path / "closed_book"):
        assert among([*asked, "is this another one"], read_learnt(folder)).tolist() == [True] * len(asked) + [False]


def test_a_method_of_the_retriever_alone_leaves_how_a_model_is_asked(files, world, tmp_path):
    save_model(RagModel.from_parts(*world.parts.values(), RagConfig(marginalization="token")), tmp_path / "base")
    parts = dict.fromkeys(("question_encoder", "passage_encoder", "generator"), "")
    start = files(model_folder=str(tmp_path / "base"), **parts)
    for method, expected in (("lsr", "token"), ("ralt", "sequence")):
        args = RagTrainingArguments(output_dir=str(tmp_path / "run"), method=method)
        assert base_model(start, args, open_pairs(world.pairs)).config.marginalization == expected


def test_a_trained_model_is_trained_further_with_its_own_settings_where_none_are_given(files, tmp_path, capsys):
    settings = {"prompt": "{question} // {title} / {text}", "max_input_tokens": 100, "method": "rag"}
    run(files(closed_book_folder=""), RagTrainingArguments(**PARAMETERS, **settings))
    parts = dict.fromkeys(("question_encoder", "passage_encoder", "generator", "closed_book_folder"), "")
    further = files(model_folder=str(tmp_path / "model"), output_folder=str(tmp_path / "further"), **parts)
    args = RagTrainingArguments(max_steps=2, eval_steps=1, report_to="none", n_docs=2)
    run(further, args)
    assert load_model(tmp_path / "further").config == dataclasses.replace(
        load_model(tmp_path / "model").config, n_docs=2
    )
    told = capsys.readouterr().err
    assert "model: is trained further with n_docs=2 instead of 3\n" in told
    assert read_description(tmp_path / "further")["lineage"]["parameters"]["temperature"] == 0.05


def test_a_closed_book_baseline_of_no_steps_is_not_trained(files, tmp_path):
    results = run(files(), RagTrainingArguments(closed_book_steps=0, **PARAMETERS))
    assert not any(name.startswith("closed_book") for name in results)
    assert not (tmp_path / "closed_book").exists()


@pytest.mark.slow
def test_mlflow_gets_the_curves_of_both_stages(files, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "")  # put back afterwards
        monkeypatch.delenv(name)
    run(files(tracking_uri=uri), RagTrainingArguments(**PARAMETERS | {"logging_steps": 1}))
    mlflow.flush_async_logging()
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("ragtune-training")
    runs = {run.info.run_name.rsplit("-")[-1]: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"rag", "closed_book"}
    log = {point["step"]: point for point in json.loads((tmp_path / "model" / "training_log.json").read_text())}
    for logged, ours in (("loss", "loss"), ("eval_em", "em"), ("tokens_per_second", "tokens_per_second")):
        curve = client.get_metric_history(runs["rag"].info.run_id, logged)
        assert {point.step: point.value for point in curve} == {s: p[ours] for s, p in log.items() if ours in p}
    assert runs["rag"].data.params["n_docs"] == "3"
    assert runs["rag"].info.status == "FINISHED"


def test_epochs_and_evaluations_by_epoch(files, tmp_path):
    parameters = PARAMETERS | {
        "max_steps": -1,
        "num_train_epochs": 2,
        "eval_strategy": "epoch",
        "per_device_train_batch_size": 8,
    }
    results = run(files(closed_book_folder=""), RagTrainingArguments(**parameters))
    log = json.loads((tmp_path / "model" / "training_log.json").read_text())
    assert results["steps"] == 12
    assert [point["step"] for point in log if "em" in point] == [0, 6, 12]


def test_an_output_that_cannot_be_written_is_known_before_training(files, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="file/model: cannot be written"):
        run(files(output_folder=str(tmp_path / "file" / "model")), RagTrainingArguments(**PARAMETERS))
    assert "training" not in capsys.readouterr().err


def test_the_base_of_the_start_is_no_place_for_the_trained_one(files, knowledge_base_folder):
    onto_itself = files(trained_knowledge_base_folder=knowledge_base_folder + "/.")
    with pytest.raises(TrainingError, match="is the knowledge base that the run starts from, which is only read"):
        run(onto_itself, RagTrainingArguments(method="rag-end2end", **PARAMETERS))
