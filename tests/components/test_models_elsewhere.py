"""Each box that loads the model to start from also takes it from a registry's artifact store."""

import inspect
from types import SimpleNamespace

import pytest

pytest.importorskip("mlflow")

from components.check_answerability import check_answerability
from components.evaluate_rag import evaluate_rag
from components.finetune_rag import finetune_rag
from components.ingest_passages import ingest_passages
from components.tokenize_pairs import tokenize_pairs
from pipeline import rag_finetuning
from ragtune.errors import RegistryError

BOXES = [ingest_passages, check_answerability, tokenize_pairs, finetune_rag, evaluate_rag]
MODELS = ("question_encoder", "passage_encoder", "generator", "model_folder")


def test_these_are_all_boxes_behind_the_first_that_load_it():
    components = rag_finetuning.pipeline_spec.components.values()
    taking = {
        component.executor_label.removeprefix("exec-").replace("-", "_")
        for component in components
        if component.executor_label and set(MODELS) & set(component.input_definitions.parameters)
    }
    assert taking - {"check_inputs"} == {box.name.replace("-", "_") for box in BOXES}


@pytest.mark.parametrize("box", BOXES, ids=lambda box: box.name)
def test_a_box_looks_for_the_model_in_the_store(box, tmp_path):
    declared = inspect.signature(box.python_func).parameters
    artifact = SimpleNamespace(path=str(tmp_path / "absent"))
    given = {name: artifact for name, parameter in declared.items() if parameter.default is inspect.Parameter.empty}
    given |= {name: f"models-elsewhere://bucket/{name}" for name in MODELS if name in declared}
    places = {"tracking_uri": f"sqlite:///{tmp_path}/mlflow.db", "workspace": str(tmp_path)}
    given |= {name: place for name, place in places.items() if name in declared}
    with pytest.raises(RegistryError, match=r"^models-elsewhere://bucket/.*: cannot be downloaded"):
        box.python_func(**given)
