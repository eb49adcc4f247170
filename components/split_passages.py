from kfp import dsl

from components import DATA_IMAGE


@dsl.component(base_image=DATA_IMAGE, install_kfp_package=False)
def split_passages(
    corpus: str,
    corpus_fingerprint: str,
    passages: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    max_passage_words: int = 100,
    quoting: str = "auto",
):
    """Cut the corpus into titled passages of at most `max_passage_words` words, without duplicates."""
    from ragtune.knowledge.split_corpus import split_passages

    counts = split_passages(corpus, passages.path, max_words=max_passage_words, quoting=quoting)
    for name, count in counts.items():
        metrics.log_metric(name, count)
