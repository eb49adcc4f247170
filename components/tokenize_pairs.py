from kfp import dsl

from components import DATA_IMAGE


@dsl.component(base_image=DATA_IMAGE, install_kfp_package=False)
def tokenize_pairs(
    train: dsl.Input[dsl.Dataset],
    validation: dsl.Input[dsl.Dataset],
    pairs: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    question_encoder: str,
    generator: str,
    question_encoder_fingerprint: str,
    generator_fingerprint: str,
    max_question_tokens: int = 32,
    max_answer_tokens: int = 32,
    tracking_uri: str = "",
):
    """Tokenise questions for the question encoder and answers for the generator, and check them by decoding back."""
    from ragtune.hub import generator_family, load_prompt, load_tokenizer
    from ragtune.questions.tokenization import tokenize_pairs
    from ragtune.registry.downloads import models_here

    with models_here(tracking_uri, question_encoder, generator) as (encoder, writer):
        counts = tokenize_pairs(
            train.path,
            validation.path,
            load_tokenizer(encoder),
            load_tokenizer(writer),
            pairs.path,
            max_question_tokens=max_question_tokens,
            max_answer_tokens=max_answer_tokens,
            question_prompt=load_prompt(encoder, "question"),
            decoder_only=generator_family(writer) == "causal",
        )
    for name, count in counts.items():
        metrics.log_metric(name, count)
