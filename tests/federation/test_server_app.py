"""The server's side of a real federation, by a grid in this process."""

import json
from dataclasses import replace

import pytest
from direct_grid import DirectGrid
from flwr.app import Context, RecordDict

from ragtune.errors import ParameterError, StorageError, TrainingError
from ragtune.federation.client_app import make_client_app
from ragtune.federation.server_app import main, read_parameters, serve
from ragtune.locks import locked
from ragtune.models.checkpoint import load_model, read_description

PARAMETERS = """
questions: not-read-here.jsonl
method: federated
method_options: {sites: 2, rounds: 1, average: adapters}
learning_rate: 3.0e-3
max_steps: 1
batch_size: 4
n_docs: 3
warmup_steps: 0
retrieval: exact
training_options: {lora_rank: 2, freeze_question_encoder: true, metric_for_best_model: loss}
"""


@pytest.fixture
def parameters(tmp_path):
    (tmp_path / "parameters.yaml").write_text(PARAMETERS)
    return tmp_path / "parameters.yaml"


def test_a_server_leaves_a_model_its_curves_and_its_rounds(sites, parameters, base_model, tmp_path, in_this_process):
    grid, output = DirectGrid(make_client_app(sites), [1, 2]), tmp_path / "output"
    serve(grid, str(base_model), read_parameters(str(parameters)), output)
    model = load_model(output / "model")
    assert not model.generator.adapters and not (output / "model" / "generator" / "adapter").exists()
    assert {path.name for path in output.iterdir()} >= {"rounds", "tensorboard", "model"}
    assert read_description(output / "model")["lineage"]["parameters"]["method"] == "federated"
    told = json.loads((output / "model" / "federation.json").read_text())
    assert [sorted(entry["sites"]) for entry in told["rounds"]] == [["site-1", "site-2"]] * 2
    sent = len(grid.sent)
    serve(grid, str(base_model), read_parameters(str(parameters)), output)
    assert len(grid.sent) == sent
    parameters.write_text(PARAMETERS.replace("3.0e-3", "1.0e-3"))
    with pytest.raises(TrainingError, match="a federation that differs in settings; give its own"):
        serve(grid, str(base_model), read_parameters(str(parameters)), output)
    parameters.write_text(PARAMETERS.replace("lora_rank: 2", "lora_rank: 2, lora_merge: false"))
    serve(grid, str(base_model), read_parameters(str(parameters)), tmp_path / "apart")
    assert load_model(tmp_path / "apart" / "model").generator.adapters


def test_a_model_says_what_its_sites_trained_with(sites, parameters, base_model, tmp_path, in_this_process):
    before = load_model(base_model).config
    assert (before.n_docs, before.temperature, before.max_answer_tokens) == (3, 0.05, 32)
    own = PARAMETERS.replace("n_docs: 3", "n_docs: 2\nmax_answer_tokens: 9\nprompt: '{question} / {title} / {text}'")
    parameters.write_text(own.replace("average: adapters", "average: adapters, local_method: rag-token"))
    grid = DirectGrid(make_client_app(sites), [1, 2])
    serve(grid, str(base_model), read_parameters(str(parameters)), tmp_path / "output")
    changed = {"n_docs": 2, "max_answer_tokens": 9, "prompt": "{question} / {title} / {text}"}
    assert load_model(tmp_path / "output" / "model").config == replace(before, marginalization="token", **changed)


def test_one_run_at_a_time_writes_into_an_output_folder(sites, parameters, base_model, tmp_path):
    grid, output = DirectGrid(make_client_app(sites), [1, 2]), tmp_path / "output"
    config = {"model": str(base_model), "parameters": str(parameters), "output": str(output)}
    context = Context(1, 0, {}, RecordDict(), config)
    with locked(output / ".federation.lock"), pytest.raises(StorageError, match=r"output/.*: held by another process"):
        main(grid, context)
    assert not grid.sent


def test_parameters_are_those_of_a_federation(parameters, tmp_path):
    read = read_parameters(str(parameters))
    assert read["per_device_train_batch_size"] == 4 and read["lora_rank"] == 2 and "questions" not in read
    with pytest.raises(ParameterError, match=r"nowhere\.yaml: cannot be read as YAML"):
        read_parameters(str(tmp_path / "nowhere.yaml"))
    parameters.write_text(PARAMETERS + "max_answer_tokens: 1")
    with pytest.raises(ParameterError, match=r"parameters\.yaml: max_answer_tokens=1: must be at least 4"):
        read_parameters(str(parameters))
    parameters.write_text("method: rag")
    with pytest.raises(ParameterError, match="no method: federated in it"):
        read_parameters(str(parameters))
