from kfp import dsl

from components import DATA_IMAGE


@dsl.component(base_image=DATA_IMAGE, install_kfp_package=False)
def register_model(
    model: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    model_name: str,
    workspace: str,
    questions_fingerprint: str,
    corpus_fingerprint: str,
    run_key: str,
    tracking_uri: str = "",
    model_registry_url: str = "",
    model_storage_key: str = "",
    serving_account: str = "",
    workspace_volume: str = "ragtune-workspace",
    promote: str = "auto",
    min_test_questions: int = 100,
    knowledge_base_files: dsl.Input[dsl.Artifact] | None = None,
    trained_knowledge_base: dsl.Input[dsl.Artifact] | None = None,
):
    """Register the model with its lineage; it becomes champion only if it answers better than today's champion."""
    from ragtune.registry.connection import registry_uri
    from ragtune.registry.kubeflow import register_in_kubeflow
    from ragtune.registry.mlflow import register
    from ragtune.registry.servable import Serving

    serving = Serving(model.uri, workspace, workspace_volume, model_storage_key, serving_account)
    result = register(
        model_folder=model.path,
        evaluation_folder=evaluation.path,
        name=model_name,
        tracking_uri=registry_uri(tracking_uri, workspace),
        lineage={"questions_fingerprint": questions_fingerprint, "corpus_fingerprint": corpus_fingerprint},
        workspace="" if knowledge_base_files else workspace,
        knowledge_base=trained_knowledge_base.path if trained_knowledge_base else "",
        promote=promote,
        min_questions=min_test_questions,
        run_key=run_key,
        mirror=(lambda done: register_in_kubeflow(done, model_registry_url, serving)) if model_registry_url else None,
    )
    print(f"version {result.version} of {model_name}: {result.reason}")
    metrics.log_metric("version", result.version)
    metrics.log_metric("champion", int(result.promoted))
