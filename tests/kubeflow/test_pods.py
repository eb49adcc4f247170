"""The compiled pipeline as a cluster reads it."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import rag_finetuning
from ragtune.kubeflow.nodes import SECRET
from ragtune.kubeflow.package import Package
from ragtune.kubeflow.pods import CREDENTIALS, VOLUME, WORKSPACE, fitted

ROOT = Path(__file__).parents[2]
PIPELINE, PLATFORM = yaml.safe_load_all((ROOT / "compiled" / "rag_finetuning.yaml").read_text())


def groups(pipeline: dict[str, Any]) -> list[dict[str, Any]]:
    """The groups of tasks, one in another: the pipeline itself, its exit handler's, its condition's."""
    return [pipeline["root"], *(part for part in pipeline["components"].values() if "dag" in part)]


def boxes(pipeline: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The tasks of all groups that run a container, by name."""
    tasks = [task for group in groups(pipeline) for task in group["dag"]["tasks"].items()]
    return {
        name: task for name, task in tasks if "executorLabel" in pipeline["components"][task["componentRef"]["name"]]
    }


COMPONENTS, TASKS = PIPELINE["components"], boxes(PIPELINE)
TYPES = {name: told["parameterType"] for name, told in PIPELINE["root"]["inputDefinitions"]["parameters"].items()}
CHECKED = PIPELINE["components"]["comp-check-inputs"]["outputDefinitions"]["parameters"]
TYPES |= {f"check-inputs-{name}": told["parameterType"] for name, told in CHECKED.items()}
POD = {"pod_gpus", "pod_memory", "pod_cpus"}  # texts of the first box, for the training's own pod
QUESTION_ENCODER, PASSAGE_ENCODER, GENERATOR = (
    {part, f"{part}_fingerprint"} for part in ("question_encoder", "passage_encoder", "generator")
)
EXECUTORS = PIPELINE["deploymentSpec"]["executors"]
PODS = PLATFORM["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
BOXES = sorted(TASKS)
ON_GPUS = {"ingest-passages", "check-answerability", "finetune-rag", "evaluate-rag"}
NEVER_CACHED = {"check-inputs", "ingest-passages", "evaluate-rag", "register-model", "summarize-run"}
OF_CHECK_INPUTS = "pipelinechannel--check-inputs-"


def resources(box: str) -> dict[str, Any]:
    return EXECUTORS[f"exec-{box}"]["container"]["resources"]


def fields(told: dict[str, Any]) -> dict[str, Any]:
    """The fields that the driver reads; those of old names stand beside for servers before 2.5."""
    own = {name: value for name, value in told.items() if name.startswith("resource")}
    return own | fields(told["accelerator"]) if "accelerator" in told else own


@pytest.mark.parametrize("box", BOXES)
def test_every_parameter_of_a_resource_is_a_text(box):
    """KFP's driver takes a number there for an empty text, and asks for no GPU at all."""
    told = fields(resources(box))
    assert all(isinstance(value, str) for value in told.values())
    assert ("resourceCount" in told) == (box in ON_GPUS)
    for value in told.values():
        if "pipelinechannel--" in value:
            assert TYPES[value.split("pipelinechannel--")[1].rstrip("']}")] == "STRING", value


@pytest.mark.parametrize("box", BOXES)
def test_every_box_has_limits_and_requests(box):
    assert {"resourceCpuLimit", "resourceCpuRequest", "resourceMemoryLimit", "resourceMemoryRequest"} <= set(
        resources(box)
    )
    assert ("accelerator" in resources(box)) == (box in ON_GPUS)
    assert ("emptyDirMounts" in PODS[f"exec-{box}"]) == (box in ON_GPUS)


@pytest.mark.parametrize("box", BOXES)
def test_every_box_mounts_the_workspace_and_the_one_optional_secret(box):
    pod = PODS[f"exec-{box}"]
    assert [mount["mountPath"] for mount in pod["pvcMount"]] == [WORKSPACE]
    (variables,) = pod["secretAsEnv"]
    assert variables["secretName"] == SECRET and variables["optional"]
    assert {entry["envVar"] for entry in variables["keyToEnv"]} == set(CREDENTIALS)
    (files,) = pod["secretAsVolume"]
    assert files["secretName"] == SECRET and files["optional"]


@pytest.mark.parametrize("box", BOXES)
def test_what_changes_things_outside_its_artifacts_is_never_cached(box):
    assert bool(TASKS[box]["cachingOptions"].get("enableCache")) == (box not in NEVER_CACHED)


@pytest.mark.parametrize("box", sorted(set(BOXES) - NEVER_CACHED))
def test_no_cached_box_takes_an_artifact_of_one_that_never_is(box):
    """Its key would be a new one in each run."""
    for source in TASKS[box]["inputs"].get("artifacts", {}).values():
        assert source["taskOutputArtifact"]["producerTask"] not in NEVER_CACHED


@pytest.mark.parametrize(
    ("box", "sources"),
    [
        ("filter-questions", {"questions"}),
        ("split-passages", {"corpus"}),
        ("check-answerability", {"pointer"} | QUESTION_ENCODER),
        ("tokenize-pairs", QUESTION_ENCODER | GENERATOR),
        ("finetune-rag", {"pointer", "model_folder"} | QUESTION_ENCODER | PASSAGE_ENCODER | GENERATOR | POD),
    ],
)
def test_a_cached_box_is_keyed_by_what_stands_behind_its_names(box, sources):
    told = TASKS[box]["inputs"]["parameters"].values()
    inner = {told["taskOutputParameter"]["outputParameterKey"] for told in told if "taskOutputParameter" in told}
    outer = {told.get("componentInputParameter", "") for told in told}
    assert inner | {name.removeprefix(OF_CHECK_INPUTS) for name in outer if name.startswith(OF_CHECK_INPUTS)} == sources


def test_what_a_pod_asks_for_reaches_it_through_every_group_of_tasks():
    """Each name that a task, or its pod, takes of its group is an input of the group."""
    for group in groups(PIPELINE):
        given = set(group["inputDefinitions"]["parameters"])
        for name, task in group["dag"]["tasks"].items():
            told = [task["inputs"]["parameters"], PODS.get(f"exec-{name}", {})]
            assert set(re.findall(r"'componentInputParameter': '([^']+)'", str(told))) <= given, name


def test_boxes_behind_the_first_one_run_only_where_there_is_something_to_train():
    (inside,) = (
        part["dag"]["tasks"] for part in COMPONENTS.values() if "finetune-rag" in part.get("dag", {}).get("tasks", {})
    )
    assert set(inside) == set(TASKS) - {"check-inputs", "summarize-run"}
    (group,) = (group["dag"]["tasks"] for group in groups(PIPELINE) if "check-inputs" in group["dag"]["tasks"])
    (condition,) = (task["triggerPolicy"]["condition"] for task in group.values() if "triggerPolicy" in task)
    assert condition == f"inputs.parameter_values['{OF_CHECK_INPUTS}Output'] == 'train'"


def test_the_summary_is_made_whatever_the_end_of_the_run():
    task = PIPELINE["root"]["dag"]["tasks"]["summarize-run"]
    assert task["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    (handled,) = task["dependentTasks"]
    assert task["inputs"]["parameters"]["status"] == {"taskFinalStatus": {"producerTask": handled}}


def test_more_memory_for_other_boxes_trains_nothing_again():
    names = set(TASKS["finetune-rag"]["inputs"]["parameters"])
    assert {"train_memory", "pipelinechannel--check-inputs-pod_memory"} <= names
    for box in set(BOXES) - {"finetune-rag", "check-inputs"}:
        assert not [name for name in TASKS[box]["inputs"]["parameters"] if "train_memory" in name or "pod_" in name]


def test_the_training_hands_on_to_a_trainjob_what_its_own_pod_was_given():
    component = PIPELINE["components"]["comp-finetune-rag"]
    handed = {told["field"] for told in component["taskConfigPassthroughs"] if told["applyToTask"]}
    assert {"ENV", "KUBERNETES_VOLUMES", "KUBERNETES_TOLERATIONS", "KUBERNETES_NODE_SELECTOR"} <= handed
    assert component["inputDefinitions"]["parameters"]["kubernetes_config"]["parameterType"] == "TASK_CONFIG"
    types = {fields(resources(box))["resourceType"] for box in ON_GPUS}
    assert types == {"{{$.inputs.parameters['pipelinechannel--cluster_gpu_resource']}}"}


@pytest.fixture(scope="module")
def bare():
    """The package of a run without a volume."""
    pipeline, values = fitted(rag_finetuning, {"questions": "q", "workspace_volume": ""})
    assert values == {"data_questions": "q"}  # KFP refuses a parameter that the pipeline does not have
    return Package.compile(pipeline)


def test_without_a_volume_every_pod_has_a_folder_of_its_own_there(bare):
    pods = bare.spec["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(pods) == set(PODS)
    for pod in pods.values():
        assert "pvcMount" not in pod
        assert {mount["mountPath"] for mount in pod["emptyDirMounts"]} >= {WORKSPACE}


def test_without_a_volume_the_knowledge_base_goes_with_its_readers(bare):
    tasks = boxes(bare.pipeline)
    readers = {"check-answerability", "finetune-rag", "evaluate-rag", "register-model"}
    for box, task in tasks.items():
        taken = task["inputs"].get("artifacts", {}).values()
        sources = {tuple(source["taskOutputArtifact"].values()) for source in taken}
        assert (("knowledge_base", "ingest-passages") in sources) == (box in readers)
    assert "trained_knowledge_base" in tasks["register-model"]["inputs"]["artifacts"]
    told = [tasks[box]["inputs"]["parameters"]["workspace_volume"] for box in ("check-inputs", "ingest-passages")]
    assert told == [{"runtimeValue": {"constant": ""}}] * 2


def test_without_a_volume_it_is_another_pipeline_with_the_other_parameters_and_their_help(bare):
    assert bare.name == "rag-finetuning-without-volume"  # the newest version of neither is one of the other
    ours = PIPELINE["root"]["inputDefinitions"]["parameters"]
    assert bare.parameters == set(ours) - {VOLUME}
    told = bare.pipeline["root"]["inputDefinitions"]["parameters"]
    assert told == {name: ours[name] for name in told}


def test_a_run_with_a_volume_is_the_pipeline_as_it_is():
    assert fitted(rag_finetuning, {"workspace_volume": "mine"}) == (rag_finetuning, {VOLUME: "mine"})
    assert fitted(rag_finetuning, {"questions": "q"})[0] is rag_finetuning
