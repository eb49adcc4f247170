import random
import re
import string
from collections import Counter

import pytest

from ragtune.errors import EvaluationError
from ragtune.evaluation.answers import exact_match, f1, rouge


# SQuAD v1.1's evaluate-v1.1.py, line by line.
def official_normalize(text):
    text = "".join(character for character in text.lower() if character not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def official_f1(prediction, answer):
    prediction_tokens = official_normalize(prediction).split()
    answer_tokens = official_normalize(answer).split()
    num_same = sum((Counter(prediction_tokens) & Counter(answer_tokens)).values())
    if num_same == 0:
        return 0
    precision = 1.0 * num_same / len(prediction_tokens)
    recall = 1.0 * num_same / len(answer_tokens)
    return (2 * precision * recall) / (precision + recall)


def random_pairs(count=3000):
    chooser = random.Random(0)
    words = ["the", "The", "a", "An", "Nile", "nile.", "river", "18", "May,", "2018", "U.S.", "half-way", "é", "…", "-"]
    for _ in range(count):
        phrases = [" ".join(chooser.choices(words, k=chooser.randint(0, 4))) for _ in range(chooser.randint(2, 4))]
        yield phrases[0], phrases[1:]


def test_em_is_the_official_formula():
    for prediction, answers in random_pairs():
        official = max(official_normalize(prediction) == official_normalize(answer) for answer in answers)
        assert exact_match(prediction, answers) == official, (prediction, answers)


def test_f1_is_the_official_formula():
    for prediction, answers in random_pairs():
        official = max(official_f1(prediction, answer) for answer in answers)
        assert f1(prediction, answers) == pytest.approx(official), (prediction, answers)


def test_the_best_reference_counts():
    assert exact_match("Nile", ["Amazon", "the Nile"]) == 1.0
    assert f1("the Nile river", ["Amazon", "Nile"]) == pytest.approx(2 / 3)


def test_rouge_takes_the_best_reference_for_each_measure():
    scores = rouge("the cat sat", ["cat sat", "a dog"])
    assert scores == pytest.approx({"rouge1": 0.8, "rouge2": 2 / 3, "rougeL": 0.8})


def test_rouge_of_an_empty_prediction_is_zero():
    assert rouge("", ["Nile"]) == {"rouge1": 0.0, "rouge2": 0.0, "rougeL": 0.0}


@pytest.mark.parametrize("score", [exact_match, f1, rouge])
def test_a_question_without_answers_is_an_error(score):
    with pytest.raises(EvaluationError, match="without reference answers"):
        score("Nile", [])


def test_scripts_without_spaces_are_scored_by_characters():
    assert exact_match("２００８ 年", ["2008年"]) == 1.0
    assert exact_match("《红楼梦》", ["红楼梦"]) == 1.0
    assert f1("北京市", ["北京"]) == pytest.approx(0.8)
    assert f1("สวัสดี", ["สวัส"]) == pytest.approx(2 * 3 / 7)
    assert rouge("北京市", ["北京"]) == pytest.approx({"rouge1": 0.8, "rouge2": 2 / 3, "rougeL": 0.8})


def test_rouge_of_latin_text_is_googles():
    from rouge_score.rouge_scorer import RougeScorer

    google = RougeScorer(["rouge1", "rouge2", "rougeL"])
    for prediction, answers in random_pairs(300):
        scores = google.score_multi(answers, prediction)
        assert rouge(prediction, answers) == {name: score.fmeasure for name, score in scores.items()}
