from kfp import dsl

from components import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def check_answerability(
    questions: dsl.Input[dsl.Dataset],
    answerable: dsl.Output[dsl.Dataset],
    unanswerable: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    knowledge_base: str,
    question_encoder: str,
    question_encoder_fingerprint: str,
    answerable_k: int = 10,
    tracking_uri: str = "",
    knowledge_base_files: dsl.Input[dsl.Artifact] | None = None,
):
    """Keep the questions whose answer stands in a passage that the knowledge base retrieves for them."""
    from ragtune.knowledge.opening import open_to_read
    from ragtune.knowledge.pointers import from_text
    from ragtune.models.devices import best_device
    from ragtune.models.encoders import Encoder
    from ragtune.questions.answerability import split_by_answerability
    from ragtune.registry.downloads import models_here

    with models_here(tracking_uri, question_encoder) as (model,):
        encoder = Encoder.from_pretrained(model, role="question").to(best_device())
    place = knowledge_base_files.path if knowledge_base_files else from_text(knowledge_base)
    with open_to_read(place) as base:
        counts = split_by_answerability(
            questions.path, encoder, base, answerable.path, unanswerable.path, k=answerable_k
        )
    for name, count in counts.items():
        metrics.log_metric(name, count)
