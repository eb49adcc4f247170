"""The model to beat, and which of today's questions may judge it."""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ragtune.questions.learnt import among, read_learnt
from ragtune.questions.question import Question
from ragtune.training.methods import METHODS
from ragtune.training.methods.options import make_method


@dataclass(frozen=True)
class Champion:
    """Today's champion, as a registry knows it.

    Attributes:
        version: of the registered model.
        folder: its model folder; None where it cannot be had.
        problem: why not, in words.
        knowledge_base: its own, where a registry keeps it; None for the one that its lineage names.
        source: the URI of its model, as the registry names it.
    """

    version: str
    folder: Path | None
    problem: str = ""
    knowledge_base: Path | None = None
    source: str = ""


def deciding_metric(model_folder: str | Path, scores: Container[str]) -> str:
    """The score per question by which a model may become champion: `em`, or recall@1 where a retriever alone learnt.

    Args:
        model_folder: of the model, whose lineage names the method.
        scores: names of the scores that all sides have; without recall by gold id among them, that by answer counts.
    """
    from ragtune.models.checkpoint import read_description  # here: it needs torch, and the registry imports this file

    trained_with = read_description(model_folder)["lineage"].get("parameters", {})
    name = trained_with.get("method", "")
    if name not in METHODS or "generator" in make_method(name, trained_with.get("method_options")).trains:
        return "em"
    return "recall@1" if "recall@1" in scores else "answer_recall@1"


def learnt_by_either(
    questions: Sequence[Question], model_folder: str | Path, champion_folder: str | Path
) -> tuple[npt.NDArray[np.bool_], str]:
    """Mark the questions that one of the two models learnt from, (n,): with another split, or more data, there may be.

    Returns:
        The marks, and a sentence for people that says how many there are and of which model it is not known; "" if
        there is nothing to say.
    """
    learnt, unknown = np.zeros(len(questions), bool), []
    for name, folder in (("this model", model_folder), ("the champion", champion_folder)):
        keys = read_learnt(folder)
        if keys is None:
            unknown.append(name)
        else:
            learnt |= among((question.question for question in questions), keys)
    said = []
    if learnt.any():
        said.append(
            f"{learnt.sum():,} of {len(questions):,} questions are left out, as one of the two learnt from them"
        )
    if unknown:
        said.append(f"it is not known which questions {' and '.join(unknown)} learnt from")
    return learnt, "; ".join(said)
