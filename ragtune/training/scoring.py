"""Validation questions searched for, answered and scored, a batch at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ragtune.errors import TrainingError
from ragtune.knowledge.passages import Passage
from ragtune.knowledge.retrieved import Retrieved
from ragtune.models.generation import generate_answers, generate_closed_book
from ragtune.models.rag import RagOutput
from ragtune.training.arguments import RagTrainingArguments
from ragtune.training.methods.base import InputTokens, Method
from ragtune.training.retrieval.search import Queries, Search
from ragtune.training.trained import TrainedParts
from ragtune.training.validation import Score, first_hit, recall_cutoffs

Batch = dict[str, Any]


@dataclass(frozen=True)
class Scorer:
    """Scores what the parts of a model say as they are now.

    Attributes:
        parts: in evaluation mode.
        args: of the run.
        tokens: of prompts and passages.
        search: None where there is none; the questions are then answered by heart.
        queries: makes vectors of batches' questions.
        to_device: moves the inputs of `parts`.
        before_batch: is called before each batch, by every process.
    """

    parts: TrainedParts
    args: RagTrainingArguments
    tokens: InputTokens
    search: Search | None
    queries: Callable[[Sequence[Batch]], list[Queries]]
    to_device: Callable[[dict[str, Tensor]], dict[str, Tensor]]
    before_batch: Callable[[], None]

    def score(self, dataset: Any, chosen: npt.NDArray[np.int64], collate: Callable[[list[Batch]], Batch]) -> Score:
        """All processes' score of some questions, which they share; every process must call it.

        Args:
            dataset: tokenised pairs.
            chosen: rows of it.
            collate: puts rows together to a batch.
        """
        score, size, processes = Score(), self.args.per_device_eval_batch_size, self.args.world_size
        own = chosen[self.args.process_index :: processes].tolist()
        # All processes search equally often, those that have run out of questions with none.
        for start in range(0, -(-len(chosen) // processes), size):
            self.before_batch()
            questions = [dataset[row] for row in own[start : start + size]]
            self._add(questions, collate(questions) if questions else None, score)
        return score.over_all_processes()

    def _add(self, questions: Sequence[Batch], batch: Batch | None, score: Score) -> None:
        method = self.parts.method
        found = self._search_and_rank(questions, batch, score)
        if batch is None:
            return
        wanted = found if method.needs_search else None
        if wanted is not None:
            wanted = _first(wanted, method.n_retrieved(self.args.n_docs))
        output = self.parts(**self.to_device(method.inputs(batch, wanted, self.tokens)))
        answers = self._answers(batch, found, output) if "generator" in method.parts else None
        score.add(output.loss.item(), answers, [question["answers"] for question in questions])

    def _search_and_rank(self, questions: Sequence[Batch], batch: Batch | None, score: Score) -> Retrieved | None:
        if self.search is None:
            return None
        cutoffs = recall_cutoffs(self.args.n_docs, len(self.tokens.prompts.passages))
        dimension = self.parts.rag.question_encoder.dimension
        queries = self.queries([batch])[0] if batch is not None else np.empty((0, dimension), np.float32)
        found = self.search.search(queries, max(*cutoffs, self.parts.method.n_retrieved(self.args.n_docs)))
        ranks = (
            first_hit(self._passages(rows), question["gold_ids"], question["answers"])
            for rows, question in zip(found.rows, questions, strict=True)
        )
        if batch is not None:
            score.add_ranks(ranks, cutoffs)
        return found

    def _answers(self, batch: Batch, found: Retrieved | None, output: RagOutput) -> list[str]:
        rag, beams = self.parts.rag, self.args.eval_num_beams
        if found is None:
            return generate_closed_book(rag, batch["question"], num_beams=beams)
        kept = _first(found, self.args.n_docs)
        scores = output.doc_log_probs
        if scores is None or scores.shape != kept.scores.shape:
            scores = torch.from_numpy(kept.scores) / rag.config.temperature
        passages = [self._passages(rows) for rows in kept.rows]
        return generate_answers(rag, batch["question"], passages, scores, num_beams=beams)

    def _passages(self, rows: npt.NDArray[np.int64]) -> list[Passage]:
        return [self.tokens.prompts.passages[row] for row in rows[rows >= 0].tolist()]


def check_metric(args: RagTrainingArguments, method: Method, search: Search | None, base_rows: int) -> None:
    """Refuse to choose the best step by what an evaluation of a knowledge base of `base_rows` passages cannot know.

    Raises:
        TrainingError: `metric_for_best_model` takes a generator or a search that there is not.
    """
    metric = str(args.metric_for_best_model)
    missing = ""
    if metric == "em" and "generator" not in method.parts:
        missing = "a generator"
    if metric.startswith("recall") and search is None:
        missing = "a search"
    if args.eval_strategy == "no":
        return
    if missing:
        raise TrainingError(f"metric_for_best_model={metric}: takes {missing}, which this method does not have")
    known = [f"recall@{k}" for k in recall_cutoffs(args.n_docs, base_rows)]
    if metric.startswith("recall") and metric not in known:
        few = f"the knowledge base has {base_rows} passages only"
        raise TrainingError(f"metric_for_best_model={metric}: {few}; take {' or '.join(known)}")


def _first(found: Retrieved, k: int) -> Retrieved:
    return Retrieved(found.rows[:, :k], found.scores[:, :k], found.embeddings[:, :k])
