from typing import NamedTuple

from kfp import dsl

from components import DATA_IMAGE


@dsl.component(base_image=DATA_IMAGE, install_kfp_package=False)
def check_inputs(
    questions: str,
    corpus: str,
    validation_questions: str,
    test_questions: str,
    question_layout: str,
    quoting: str,
    max_answer_words: int,
    max_questions: int,
    max_test_questions: int,
    validation_fraction: float,
    test_fraction: float,
    split_by: str,
    max_rejected_fraction: float,
    max_passage_words: int,
    question_encoder: str,
    passage_encoder: str,
    generator: str,
    start_from: str,
    knowledge_base: str,
    milvus_uri: str,
    index: str,
    when_busy: str,
    embed_on: str,
    answerable_k: int,
    max_question_tokens: int,
    max_answer_tokens: int,
    method: str,
    method_options: dict,
    retrieval: str,
    n_docs: int,
    temperature: float,
    prompt: str,
    max_input_tokens: int,
    max_steps: int,
    batch_size: int,
    gradient_accumulation_steps: int,
    learning_rate: float,
    question_encoder_learning_rate: float,
    passage_encoder_learning_rate: float,
    refresh_every: int,
    max_staleness: int,
    refresh_device: str,
    adam_beta2: float,
    warmup_steps: float,
    eval_steps: float,
    closed_book_steps: int,
    processes: int,
    training_options: dict,
    num_beams: int,
    seed: int,
    model_name: str,
    promote: str,
    when_unchanged: str,
    min_test_questions: int,
    tracking_uri: str,
    model_registry_url: str,
    model_storage_key: str,
    serving_account: str,
    workspace: str,
    workspace_volume: str,
    launcher: str,
    nodes: int,
    gpus: str,
    gpu_resource: str,
    train_memory: str,
    train_cpus: str,
    train_env: dict,
    training_runtime: str,
    keep_trainjob: bool,
    embed_gpus: str,
    embed_memory: str,
    embed_cpus: str,
    data_memory: str,
    data_cpus: str,
    node_selector: dict,
    tolerations: list,
) -> NamedTuple(
    "Checked",
    Output=str,  # kfp.local finds what a dsl.If compares by this name alone
    told=str,
    questions=str,
    corpus=str,
    question_encoder=str,
    passage_encoder=str,
    generator=str,
    question_encoder_fingerprint=str,
    passage_encoder_fingerprint=str,
    generator_fingerprint=str,
    model_folder=str,
    run_key=str,
    pod_gpus=str,
    pod_memory=str,
    pod_cpus=str,
):
    """Refuse what a later box would; tell what there is to train, and from which model; hash both and the sources."""
    values = dict(locals())  # every parameter of the pipeline, before anything else is named here
    from ragtune.kubeflow.nodes import training_pod, without_secret
    from ragtune.kubeflow.parameters import check_values
    from ragtune.reachable import check_models, check_reachable, model_fingerprint
    from ragtune.registry.start import find_start
    from ragtune.registry.unchanged import run_key, what_to_do
    from ragtune.sources import fingerprint

    check_values(values)
    if hint := without_secret():
        print(hint)
    check_reachable(values)
    start = find_start(values)
    check_models(*start.parts)
    base = (question_encoder, passage_encoder, generator)
    models = {part: model_fingerprint(part) for part in {*base, *start.parts}}  # one folder may be two of them
    sources = (fingerprint(questions, validation_questions, test_questions), fingerprint(corpus))
    key = run_key(values, (*sources, *(models[part] for part in base)))
    do, told = what_to_do(values, key, start)
    print(told)
    fingerprints = (models[part] for part in start.parts)
    return (do, told, *sources, *start.handed_on(), *fingerprints, start.model, key, *training_pod(values))
