from kfp import dsl

from components import DATA_IMAGE


@dsl.component(base_image=DATA_IMAGE, install_kfp_package=False)
def filter_questions(
    questions: str,
    questions_fingerprint: str,
    train: dsl.Output[dsl.Dataset],
    validation: dsl.Output[dsl.Dataset],
    test: dsl.Output[dsl.Dataset],
    rejected: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    validation_questions: str = "",
    test_questions: str = "",
    question_layout: str = "auto",
    quoting: str = "auto",
    max_answer_words: int = 5,
    max_questions: int = 0,
    max_test_questions: int = 0,
    validation_fraction: float = 0.05,
    test_fraction: float = 0.1,
    split_by: str = "question",
    max_rejected_fraction: float = 0.5,
):
    """Keep the questions that have a short answer, and write down why each other row was rejected."""
    from ragtune.questions.filtering import filter_questions

    counts = filter_questions(
        questions,
        train.path,
        validation.path,
        test.path,
        rejected.path,
        validation_uri=validation_questions,
        test_uri=test_questions,
        layout=question_layout,
        quoting=quoting,
        max_answer_words=max_answer_words,
        max_questions=max_questions,
        max_test_questions=max_test_questions,
        validation_fraction=validation_fraction,
        test_fraction=test_fraction,
        split_by=split_by,
        max_rejected_fraction=max_rejected_fraction,
    )
    for name, count in counts.items():
        metrics.log_metric(name, count)
