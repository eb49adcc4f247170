"""Metrics of an answer: exact match, F1 and ROUGE, each the best over the reference answers."""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

from ragtune.errors import EvaluationError
from ragtune.questions import normalization
from ragtune.questions.normalization import normalize_answer
from ragtune.questions.unspaced import has_unspaced, split_words

ROUGE_NAMES = ("rouge1", "rouge2", "rougeL")


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """1.0 if the prediction equals any reference after normalisation, else 0.0."""
    _require(answers)
    return float(normalization.exact_match(prediction, answers))


def f1(prediction: str, answers: Sequence[str]) -> float:
    """The harmonic mean of precision and recall over normalised words, the best over the references, in [0, 1].

    In scripts without spaces between words each character counts as one, as in MLQA's evaluation of Chinese.

    Example: 1 of 2 words and 1 of 1 are shared, 2 · 0.5 · 1 / 1.5.

    >>> round(f1("the Nile river", ["Nile"]), 3)
    0.667

    Source: SQuAD v1.1's evaluate-v1.1.py, `f1_score` under `metric_max_over_ground_truths`.
    """
    _require(answers)
    words = split_words(normalize_answer(prediction))
    return max(_f1_of_words(words, split_words(normalize_answer(answer))) for answer in answers)


def rouge(prediction: str, answers: Sequence[str]) -> dict[str, float]:
    """F-measures of ROUGE-1, ROUGE-2 and ROUGE-L, each the best over the references, in [0, 1].

    Google's rouge-score with its own tokenizer (lower case, Latin letters and digits; beside them the characters of
    scripts without spaces between words) and no stemming; a one-word answer has no bigram, so its rouge2 is 0 even
    where it is right.
    """
    _require(answers)
    scores = _rouge_scorer().score_multi(list(answers), prediction)
    return {name: float(scores[name].fmeasure) for name in ROUGE_NAMES}


def _f1_of_words(prediction: list[str], answer: list[str]) -> float:
    shared = (Counter(prediction) & Counter(answer)).total()
    if shared == 0:
        return 0.0
    precision, recall = shared / len(prediction), shared / len(answer)
    return 2 * precision * recall / (precision + recall)


def _require(answers: Sequence[str]) -> None:
    if not answers:
        raise EvaluationError("a question without reference answers cannot be scored; filter such questions out first")


@cache
def _rouge_scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # a second of imports (nltk): only for those who score
    from rouge_score.tokenizers import DefaultTokenizer, Tokenizer

    class Words(Tokenizer):
        _latin = DefaultTokenizer(use_stemmer=False)

        def tokenize(self, text: str) -> list[str]:
            """The default's tokens, and each character of a script that puts no spaces between words."""
            return [
                token
                for word in split_words(normalize_answer(text) if has_unspaced(text) else text)
                for token in ([word] if has_unspaced(word) else self._latin.tokenize(word))
            ]

    return RougeScorer(list(ROUGE_NAMES), tokenizer=Words())
