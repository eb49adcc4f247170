from typing import NamedTuple

from kfp import dsl

from components import DATA_IMAGE


@dsl.component(base_image=DATA_IMAGE, install_kfp_package=False)
def fingerprint_sources(
    questions: str,
    corpus: str,
    validation_questions: str = "",
    test_questions: str = "",
) -> NamedTuple("Fingerprints", questions=str, corpus=str):
    """Hash what stands behind the URIs now: it keeps caching right when data behind an unchanged URI has changed."""
    from ragtune.sources import check_no_secrets, fingerprint

    uris = {"questions": questions, "validation_questions": validation_questions, "test_questions": test_questions}
    check_no_secrets({**uris, "corpus": corpus})
    return (fingerprint(*uris.values()), fingerprint(corpus))
