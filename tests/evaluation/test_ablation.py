"""Arms with made-up scores: 40 questions, each its own group."""

import numpy as np
import pytest

from ragtune.evaluation.ablation import BOTH, CLOSED_BOOK, GENERATOR, RETRIEVER, UNTRAINED, Ablation, Arm


def right(first, of=40):
    """Scores of a model that answers the first questions alone."""
    return (np.arange(of) < first).astype(float)


def arm(em, recall, question_encoder=0.0, generator=0.0):
    moved = {"question_encoder": question_encoder, "passage_encoder": 0.0, "generator": generator}
    return Arm({"em": np.stack([right(count) for count in em]), "recall@1": np.stack([right(recall)] * len(em))}, moved)


@pytest.fixture
def ablation():
    trained = {
        "lsr": arm([8, 8], 32, question_encoder=0.02),
        "ralt": arm([12, 14], 20, generator=0.01),
        "rag": arm([28, 30], 31, question_encoder=0.03, generator=0.01),
        "alternate": arm([10, 10], 30, question_encoder=0.03, generator=0.01),
    }
    return Ablation(arm([6], 20), trained, Arm({"em": right(1)[None]}), np.arange(40))


def test_an_arm_trains_what_has_moved(ablation):
    assert {name: own.trains for name, own in ablation.trained.items()} == {
        "lsr": RETRIEVER,
        "ralt": GENERATOR,
        "rag": BOTH,
        "alternate": BOTH,
    }
    assert ablation.untrained.trains == ""
    with_adapter = Arm(ablation.trained["ralt"].scores, {"question_encoder": 0.0, "passage_encoder": 0.0})
    assert with_adapter.trains == GENERATOR  # its distance is not known


def test_the_best_arm_of_a_kind_comes_first(ablation):
    assert ablation.of(BOTH) == ["rag", "alternate"]
    assert ablation.of(RETRIEVER) == ["lsr"]


def test_runs_of_an_arm_are_one_answer_per_question_when_it_is_compared(ablation):
    assert ablation.trained["ralt"].by_run("em") == [0.3, 0.35]
    found = ablation.contrast("ralt", UNTRAINED, "em").comparison
    assert found.questions == 40  # and not 80: a question's answers in two runs are no two pieces of evidence
    assert found.interval.difference == pytest.approx(13 / 40 - 6 / 40)
    assert (found.wins, found.losses) == (8, 0)


def test_each_is_compared_with_the_start_and_both_parts_with_one(ablation):
    pairs = {(found.ours, found.theirs, found.score) for found in ablation.contrasts()}
    assert {("lsr", UNTRAINED, "recall@1"), ("rag", "ralt", "em"), ("alternate", "lsr", "recall@1")} <= pairs
    assert ("rag", "alternate", "em") in pairs
    assert {score for _, theirs, score in pairs if theirs == CLOSED_BOOK} == {"em"}  # it retrieves nothing
    assert not {("lsr", "ralt", "em"), ("ralt", "lsr", "em")} & pairs


def test_questions_of_one_group_are_one_piece_of_evidence(ablation):
    together = Ablation(ablation.untrained, ablation.trained, None, np.arange(40) // 20)
    assert ablation.contrast("rag", "ralt", "em").comparison.better
    assert not together.contrast("rag", "ralt", "em").comparison.better
