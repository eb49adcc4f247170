"""The training box: what it makes of its parameters for the library."""

import inspect
from types import SimpleNamespace

import pytest

from components.finetune_rag import finetune_rag
from pipeline import rag_finetuning
from ragtune.kubeflow.parameters import with_defaults


class StartedError(Exception):
    """Carries what a training was started with."""


@pytest.mark.parametrize(
    "values, processes",
    [
        ({"gpus": "4"}, 4),
        ({"gpus": "4", "processes": 3}, 3),
        ({"gpus": "4", "method": "federated"}, 1),
        ({"gpus": "0"}, 0),
        ({"gpus": "0", "method": "federated"}, 1),
    ],
)
def test_there_is_a_process_per_gpu_but_one_for_a_federation(values, processes, monkeypatch, tmp_path):
    def start(**given):
        raise StartedError(given["processes"])

    monkeypatch.setattr("ragtune.training.launch.finetune", start)
    monkeypatch.setattr("ragtune.knowledge.pointers.resolve", lambda pointer: (pointer, None))
    declared = inspect.signature(finetune_rag.python_func).parameters
    artifact = SimpleNamespace(path=str(tmp_path / "absent"))
    given = {name: artifact for name, parameter in declared.items() if parameter.default is inspect.Parameter.empty}
    given |= {
        name: value for name, value in with_defaults(rag_finetuning.pipeline_func, {}).items() if name in declared
    }
    given |= {"model_folder": "", "knowledge_base_files": artifact, **values}
    with pytest.raises(StartedError) as started:
        finetune_rag.python_func(**given)
    assert started.value.args == (processes,)
