from kfp import dsl

from components import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def evaluate_rag(
    test: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    closed_book_model: dsl.Input[dsl.Model],
    knowledge_base: dsl.Input[dsl.Artifact],
    trained_knowledge_base: dsl.Input[dsl.Artifact],
    rejected: dsl.Input[dsl.Dataset],
    evaluation: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    question_encoder: str,
    passage_encoder: str,
    generator: str,
    model_folder: str,
    model_name: str,
    workspace: str,
    tracking_uri: str = "",
    num_beams: int = 2,
    answerable_k: int = 10,
    retrieval: str = "direct",
):
    """Compare the fine-tuned model with the model before, with closed-book and with today's champion."""
    from ragtune.evaluation.evaluate import HEADLINES, evaluate
    from ragtune.registry.champion import todays_champion
    from ragtune.registry.connection import registry_uri
    from ragtune.registry.downloads import models_here

    title = f"{model_name}, trained further" if model_folder else ""  # a champion's parts have no names to show
    with (
        models_here(tracking_uri, question_encoder, passage_encoder, generator) as (question, passage, writer),
        todays_champion(model_name, registry_uri(tracking_uri, workspace)) as champion,
    ):
        figures = evaluate(
            model_folder=model.path,
            base_parts=(question, passage, writer),
            closed_book_folder=closed_book_model.path,
            champion=champion,
            questions_path=test.path,
            knowledge_base_folder=trained_knowledge_base.path,
            base_knowledge_base_folder=knowledge_base.path,
            output_folder=evaluation.path,
            report_path=report.path,
            rejected_path=rejected.path,
            title=title,
            num_beams=num_beams,
            answerable_k=answerable_k,
            retrieval=retrieval,
        )
    for name in HEADLINES:  # of about ninety; all are in metrics.json of the evaluation
        if name in figures:
            metrics.log_metric(name, figures[name])
