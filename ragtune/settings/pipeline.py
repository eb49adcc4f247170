"""The parameters of the pipeline, one dataclass per phase; those of training are in `ragtune.settings.training`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from ragtune.settings.setting import GIVEN, Like, OneOf, Range, needed, setting, settings_of
from ragtune.settings.training import MOST_PASSAGES, Training

_SHARE = Range(0, below=1)
_MEMORY = Like(r"[0-9]+([EPTGMK]i?)?", "an amount of memory, such as 64Gi")  # as KFP has it
_COUNT = Like(r"[0-9]+", "a whole number")  # as text, as KFP reads resources
_CPUS = Like(r"[0-9]+(\.[0-9]+)?|[0-9]+m", "a number of processors, such as 4 or 500m")
_VOLUME = Like(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?", "the name of a volume claim, or empty")
_RESOURCE = Like(r"[a-z0-9][-a-z0-9.]*/[A-Za-z0-9][-\w.]*", "the name of a resource, such as amd.com/gpu")
_OBJECT = Like(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", "the name of a Kubernetes object")
LAUNCHERS = ("torchrun", "trainjob")
STARTS = ("base", "champion")
TRAIN, SKIP = "train", "skip"
WAIT, REFUSE = "wait", "refuse"
EMBED_ON = ("here", "ray")


@dataclass
class Questions:
    """The questions, how they are read, filtered and split."""

    questions: Annotated[str, GIVEN] = needed(
        "training questions in any layout: a path, an fsspec URI or `hf://owner/name`"
    )
    validation_questions: str = setting(
        "", "questions that choose the best step; empty splits `validation_fraction` off `questions`"
    )
    test_questions: str = setting(
        "", "questions held out for the evaluation; empty splits `test_fraction` off `questions`"
    )
    question_layout: str = setting(
        "auto", "layout of the questions by name, such as `squad`; `auto` follows the first row"
    )
    quoting: str = setting(
        "auto", "quoting in CSV and TSV cells: `none`, `minimal` (where needed), or `auto`: CSV `minimal`, TSV `none`"
    )
    max_answer_words: Annotated[int, Range(1)] = setting(
        5, "longest answer kept, in words (10 Chinese characters are 5 words); a question needs one"
    )
    max_questions: Annotated[int, Range(0)] = setting(
        0, "train and validate on at most N questions, drawn by a hash; 0 means all"
    )
    max_test_questions: Annotated[int, Range(0)] = setting(
        0, "evaluate on at most N questions, drawn by a hash; 0 means all"
    )
    validation_fraction: Annotated[float, _SHARE] = setting(
        0.05, "share of the questions for validation, by the hash of what `split_by` names"
    )
    test_fraction: Annotated[float, _SHARE] = setting(
        0.1, "share of the questions for the evaluation, by the hash of what `split_by` names"
    )
    split_by: str = setting(
        "question",
        "what stays in one split: a `question`, all on one document (`title`), or all with a passage in common "
        "(`gold`)",
    )
    max_rejected_fraction: Annotated[float, Range(0, 1)] = setting(
        0.5, "share of malformed rows at which the run stops"
    )


@dataclass
class KnowledgeBase:
    """The corpus and the knowledge base that is made of it."""

    corpus: Annotated[str, GIVEN] = needed("passages: a table of id, title and text")
    max_passage_words: Annotated[int, Range(1)] = setting(
        100, "longest passage, in words (200 Chinese characters are 100 words); longer texts are split at sentences"
    )
    knowledge_base: str = setting("passages", "name of the knowledge base in the workspace, in Feast and in Milvus")
    milvus_uri: str = setting("", "URI of a Milvus server; empty means Milvus Lite in the workspace")
    index: str = setting(
        "auto", "vector index: `HNSW` (a graph), `FLAT` (exact), or `auto`: FLAT for small knowledge bases"
    )
    when_busy: Annotated[str, OneOf((WAIT, REFUSE))] = setting(
        WAIT, "a run while another one changes the knowledge base: `wait`, for six hours at most, or `refuse`"
    )
    embed_on: Annotated[str, OneOf(EMBED_ON)] = setting(
        "here",
        "place where passages are embedded: `here`, on the box's first GPU, or `ray`: on all GPUs (or CPUs) of the Ray "
        "cluster at `RAY_ADDRESS`, or of this machine where that is not set",
    )
    answerable_k: Annotated[int, Range(1, MOST_PASSAGES)] = setting(
        10, "a question is answerable if an answer is in one of this many retrieved passages"
    )


@dataclass
class Models:
    """The base model's parts, and what they are fed."""

    question_encoder: Annotated[str, GIVEN] = setting(
        "facebook/dpr-question_encoder-single-nq-base",
        "DPR or sentence-transformers model: a folder, or a name on the hub (`name@revision`)",
    )
    passage_encoder: Annotated[str, GIVEN] = setting(
        "facebook/dpr-ctx_encoder-single-nq-base", "its other half; the same model for sentence-transformers"
    )
    generator: Annotated[str, GIVEN] = setting(
        "facebook/bart-large",
        "encoder-decoder (BART, T5 …) or decoder-only model (Llama, Qwen …): a folder, or a name on the hub "
        "(`name@revision`)",
    )
    start_from: Annotated[str, OneOf(STARTS)] = setting(
        "base", "model to train further: `base` (these three), or today's `champion`, without one yet the base"
    )
    max_question_tokens: Annotated[int, Range(4)] = setting(32, "longest question, in the question encoder's tokens")
    max_answer_tokens: Annotated[int, Range(4)] = setting(32, "longest answer, in the generator's tokens, end included")


@dataclass
class Processes:
    """The training processes, and further options for them."""

    batch_size: Annotated[int, Range(1)] = setting(16, "questions per batch in each process")
    processes: Annotated[int, Range(0)] = setting(
        0,
        "training processes per node, one per GPU; 0 means `gpus`; one fewer leaves a GPU to `rag-end2end`'s refreshes",
    )
    training_options: dict[str, Any] = setting({}, 'further settings of training, such as `{"fully_shard": true}`')


@dataclass
class Evaluation:
    """The evaluation on held-out questions."""

    num_beams: Annotated[int, Range(1)] = setting(2, "beams per passage in the evaluation")


@dataclass
class Registry:
    """The registry of models."""

    model_name: str = setting("ragtune", "name of the model in the registry")
    promote: str = setting(
        "auto", "`auto` (champion only if better than today's), `never`, or `force` (whatever the evaluation says)"
    )
    when_unchanged: Annotated[str, OneOf((TRAIN, SKIP))] = setting(
        TRAIN, "a run whose sources, models and parameters a registered version came from: `train` again, or `skip` it"
    )
    min_test_questions: Annotated[int, Range(1)] = setting(
        100, "fewest held-out questions on which `auto` promotes; those on one document count once"
    )
    tracking_uri: str = setting(
        "", "URI of MLflow, for curves and models; empty means SQLite in the workspace, without curves"
    )
    model_registry_url: str = setting("", "URL of a Kubeflow Model Registry; empty registers in MLflow alone")
    model_storage_key: str = setting(
        "",
        "key of KServe's Secret `storage-config` for the bucket of a registered model, in the Kubeflow Model Registry",
    )
    serving_account: str = setting(
        "", "service account under which KServe serves a registered model, in the Kubeflow Model Registry"
    )


@dataclass
class Cluster:
    """The run's workspace, and its share of a cluster."""

    workspace: Annotated[str, GIVEN] = setting(
        "/workspace", "folder that outlives the run: knowledge bases, checkpoints, MLflow"
    )
    workspace_volume: Annotated[str, _VOLUME] = setting(
        "ragtune-workspace",
        "volume claim that is mounted as the workspace on a cluster; empty mounts none, so that `milvus_uri` and "
        "`tracking_uri` must be servers'",
    )
    launcher: Annotated[str, OneOf(LAUNCHERS)] = setting(
        "torchrun", "place of the training: `torchrun` in its pod, or `trainjob` on nodes of a Kubeflow TrainJob"
    )
    nodes: Annotated[int, Range(1)] = setting(1, "nodes of the TrainJob; each has `gpus`")
    gpus: Annotated[str, _COUNT] = setting("1", "GPUs of the training on a cluster, per node")
    gpu_resource: Annotated[str, _RESOURCE] = setting(
        "nvidia.com/gpu", "resource of the GPUs on a cluster, such as `amd.com/gpu`"
    )
    train_memory: Annotated[str, _MEMORY] = setting("64Gi", "memory of the training on a cluster, per node")
    train_cpus: Annotated[str, _CPUS] = setting("8", "most processors of the training on a cluster, per node")
    train_env: dict[str, Any] = setting(
        {}, 'environment variables of the training processes, such as `{"NCCL_SOCKET_IFNAME": "eth0"}`; no credentials'
    )
    training_runtime: Annotated[str, _OBJECT] = setting(
        "torch-distributed", "runtime of the TrainJob, of the namespace or the cluster"
    )
    keep_trainjob: bool = setting(False, "leave the TrainJob in the cluster when it has ended")
    embed_gpus: Annotated[str, _COUNT] = setting(
        "1", "GPUs of the pods that embed and evaluate on a cluster; 0 leaves it to the CPU"
    )
    embed_memory: Annotated[str, _MEMORY] = setting("32Gi", "memory of the pods that embed and evaluate on a cluster")
    embed_cpus: Annotated[str, _CPUS] = setting("4", "most processors of the pods that embed and evaluate on a cluster")
    data_memory: Annotated[str, _MEMORY] = setting("8Gi", "memory of all other pods on a cluster")
    data_cpus: Annotated[str, _CPUS] = setting("2", "most processors of all other pods on a cluster")
    node_selector: dict[str, Any] = setting(
        {}, 'labels of the nodes that may run the pods on a cluster, such as `{"pool": "gpu"}`'
    )
    tolerations: list[Any] = setting(
        [], 'taints that the pods tolerate on a cluster, such as `[{"key": "gpu", "operator": "Exists"}]`'
    )


PHASES: dict[type, str] = {
    Questions: "data",
    KnowledgeBase: "knowledge",
    Models: "model",
    Training: "train",
    Processes: "train",
    Evaluation: "evaluation",
    Registry: "registry",
    Cluster: "cluster",
}
"""The dataclasses, and the word that their parameters begin with in KFP, whose UI sorts parameters by name."""
PARAMETERS = settings_of(*PHASES)
_IN_KFP = {
    name: name if name.startswith(word) else f"{word}_{name}"
    for phase, word in PHASES.items()
    for name in settings_of(phase)
}
_HERE = {in_kfp: name for name, in_kfp in _IN_KFP.items()}


def names_in_kfp(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of parameters under the names that the compiled pipeline has for them: `train_max_steps`."""
    return {_IN_KFP.get(name, name): value for name, value in values.items()}


def name_here(name: str) -> str:
    """The name of a parameter in files, messages and boxes, `max_steps`, where `name` is the compiled pipeline's."""
    return _HERE.get(name, name)
