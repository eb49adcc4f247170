from kfp import dsl

from components import TRAIN_IMAGE

# A TrainJob's nodes take over what the step's pod was given, but for the resources, which are parameters.
HANDED_ON = [dsl.TaskConfigPassthrough(field=field, apply_to_task=True) for field in dsl.TaskConfigField]


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False, task_config_passthroughs=HANDED_ON)
def finetune_rag(
    pairs: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
    closed_book_model: dsl.Output[dsl.Model],
    trained_knowledge_base: dsl.Output[dsl.Artifact],
    tensorboard: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    question_encoder: str,
    passage_encoder: str,
    generator: str,
    knowledge_base: str,
    question_encoder_fingerprint: str,
    passage_encoder_fingerprint: str,
    generator_fingerprint: str,
    model_folder: str,
    workspace: str,
    method: str = "rag",
    method_options: dict = {},  # noqa: B006 (read only; KFP takes no None)
    retrieval: str = "direct",
    n_docs: int = 5,
    temperature: float = 1.0,
    prompt: str = "{title} / {text} // {question}",
    max_input_tokens: int = 300,
    max_steps: int = 1000,
    batch_size: int = 16,
    gradient_accumulation_steps: int = 1,
    learning_rate: float = 3e-5,
    question_encoder_learning_rate: float = 0.0,
    passage_encoder_learning_rate: float = 0.0,
    refresh_every: int = 100,
    max_staleness: int = 0,
    refresh_device: str = "",
    adam_beta2: float = 0.999,
    warmup_steps: float = 0.05,
    eval_steps: float = 100,
    closed_book_steps: int = -1,
    launcher: str = "torchrun",
    nodes: int = 1,
    gpus: str = "1",
    gpu_resource: str = "nvidia.com/gpu",
    train_memory: str = "64Gi",
    train_cpus: str = "8",
    train_env: dict = {},  # noqa: B006 (read only; KFP takes no None)
    training_runtime: str = "torch-distributed",
    keep_trainjob: bool = False,
    processes: int = 0,
    seed: int = 0,
    training_options: dict = {},  # noqa: B006 (read only; KFP takes no None)
    tracking_uri: str = "",
    kubernetes_config: dsl.TaskConfig = None,
    knowledge_base_files: dsl.Input[dsl.Artifact] | None = None,
):
    """Train encoders and generator together through the knowledge base, and the closed-book baseline beside."""
    import math

    from ragtune.knowledge.pointers import from_text, point_at, resolve
    from ragtune.models.checkpoint import knowledge_base_of
    from ragtune.registry.connection import connected
    from ragtune.registry.downloads import models_here
    from ragtune.training.launch import finetune
    from ragtune.training.launchers.torchrun import Torchrun
    from ragtune.training.launchers.trainjob.launcher import TrainJob

    if tracking_uri:
        with connected(tracking_uri):  # makes MLflow's tables, if need be, before several processes could
            pass
    job = TrainJob(
        nodes=nodes,
        gpus=int(gpus),
        gpu_resource=gpu_resource,
        memory=train_memory,
        cpus=train_cpus,
        runtime=training_runtime,
        environment=train_env,
        keep=keep_trainjob,
        task_config=kubernetes_config,
    )
    if model_folder:  # a whole model, whose parts these are
        question_encoder = passage_encoder = generator = ""
    with models_here(tracking_uri, model_folder) as (start,):
        base, _ = resolve(knowledge_base_files.path if knowledge_base_files else from_text(knowledge_base))
        results = finetune(
            model_folder=start,
            question_encoder=question_encoder,
            passage_encoder=passage_encoder,
            generator=generator,
            dataset_folder=pairs.path,
            knowledge_base_folder=base,
            output_folder=model.path,
            closed_book_folder=closed_book_model.path,
            trained_knowledge_base_folder=trained_knowledge_base.path if knowledge_base_files else "",
            tensorboard_folder=tensorboard.path,
            work_folder=f"{workspace}/training",
            tracking_uri=tracking_uri,
            processes=processes or (1 if method == "federated" else int(gpus)),  # a federation starts its sites itself
            launcher=job if launcher == "trainjob" else Torchrun(train_env),
            method=method,
            method_options=method_options,
            retrieval=retrieval,
            n_docs=n_docs,
            temperature=temperature,
            prompt=prompt,
            max_input_tokens=max_input_tokens,
            max_steps=max_steps,
            batch_size=batch_size,
            gradient_accumulation_steps=gradient_accumulation_steps,
            learning_rate=learning_rate,
            question_encoder_learning_rate=question_encoder_learning_rate,
            passage_encoder_learning_rate=passage_encoder_learning_rate,
            refresh_every=refresh_every,
            max_staleness=max_staleness,
            refresh_device=refresh_device,
            adam_beta2=adam_beta2,
            warmup_steps=warmup_steps,
            eval_steps=eval_steps,
            closed_book_steps=closed_book_steps,
            seed=seed,
            **training_options,
        )
    point_at(trained_knowledge_base.path, knowledge_base_of(model.path))
    for name, value in results.items():
        if math.isfinite(value):  # a loss that went to infinity is in the log; KFP keeps JSON, which has none
            metrics.log_metric(name, value)
