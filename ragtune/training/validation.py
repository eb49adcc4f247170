"""Metrics of an evaluation during training: exact match, recall of the retrieval, loss."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ragtune.errors import TrainingError
from ragtune.knowledge.passages import Passage
from ragtune.questions.normalization import exact_match, normalize_for_matching
from ragtune.questions.relevance import are_gold, first_rank, hold_answer
from ragtune.training.distributed.all_processes import of_all_processes

_RECALL_AT = (1, 5)


@dataclass
class Score:
    """Sums over questions, so that those of several processes can be added up.

    Attributes:
        questions: how many.
        loss: summed, in nats.
        exact: predictions that equal a reference answer after SQuAD normalisation.
        answered: questions that were answered, which takes a generator.
        hits: by k, questions with a hit among the first k passages.
    """

    questions: int = 0
    loss: float = 0.0
    exact: int = 0
    answered: int = 0
    hits: dict[int, int] = field(default_factory=dict)

    def add(self, loss: float, predictions: Sequence[str] | None, references: Sequence[Sequence[str]]) -> None:
        """Count a batch: its mean loss, and per question its references and, if there is one, a prediction."""
        self.questions += len(references)
        self.loss += loss * len(references)
        if predictions is not None:
            self.answered += len(predictions)
            self.exact += sum(map(exact_match, predictions, references))

    def add_ranks(self, ranks: Iterable[int], cutoffs: Iterable[int]) -> None:
        """Count the rank of the first hit of each question, from 1; 0 where there is none."""
        ranks = list(ranks)
        for k in cutoffs:
            self.hits[k] = self.hits.get(k, 0) + sum(0 < rank <= k for rank in ranks)

    def over_all_processes(self) -> "Score":
        """The sum of all processes' scores; every process must call it."""
        everyone = of_all_processes(self)
        cutoffs = {k for score in everyone for k in score.hits}
        return Score(
            sum(score.questions for score in everyone),
            sum(score.loss for score in everyone),
            sum(score.exact for score in everyone),
            sum(score.answered for score in everyone),
            {k: sum(score.hits.get(k, 0) for score in everyone) for k in cutoffs},
        )

    def figures(self) -> dict[str, float]:
        """loss and recall@k, and em where questions were answered; nats and fractions.

        Raises:
            TrainingError: there are no questions.
        """
        if not self.questions:
            raise TrainingError("validation: no question to evaluate on; set eval_strategy to no, or give some")
        recall = {f"recall@{k}": count / self.questions for k, count in sorted(self.hits.items())}
        em = {"em": self.exact / self.answered} if self.answered else {}
        return {**em, "loss": self.loss / self.questions, **recall}


def recall_cutoffs(n_docs: int, base_rows: int) -> list[int]:
    """The k of recall@k: 1, 5 and n_docs, none above the size of the knowledge base."""
    return sorted({k for k in (*_RECALL_AT, n_docs) if k <= base_rows})


def first_hit(passages: Sequence[Passage], gold_ids: Sequence[str], answers: Sequence[str]) -> int:
    """The rank, from 1, of the first passage that helps; 0 where none does.

    It helps if it is (a piece of) a gold passage; where no gold passage is known, if an answer stands in its text.
    """
    if gold_ids:
        return first_rank(are_gold((passage.source_ids for passage in passages), gold_ids))
    return first_rank(hold_answer((normalize_for_matching(passage.text) for passage in passages), answers))


def chosen_questions(available: int, at_most: int, seed: int) -> npt.NDArray[np.int64]:
    """Choose the validation questions that are answered: all, or the same random ones at every evaluation, in order."""
    if not at_most or at_most >= available:
        return np.arange(available)
    return np.sort(np.random.default_rng(seed).permutation(available)[:at_most])
