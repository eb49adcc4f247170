"""Hard negatives mined while training goes on: once before the first step, and again from every refreshed base."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ragtune.training.distributed.all_processes import of_all_processes
from ragtune.training.distributed.fsdp import gathered
from ragtune.training.methods.hard_negatives import KEPT, Relevance, judge
from ragtune.training.methods.mined_pairs import MinedPairs

if TYPE_CHECKING:
    from ragtune.training.methods.retriever import Retriever
    from ragtune.training.trainer import RagTrainer

_QUESTIONS_AT_ONCE = 256


def mine(
    trainer: "RagTrainer",
    rows: Any,
    numbers: Sequence[int],
    relevance: Relevance,
    pairs: MinedPairs,
    k: int,
    margin: float,
) -> Counter[str]:
    """Search the knowledge base for questions, and keep what may serve as hard negatives; every process must call it.

    Where a question has no positive yet, the first passage found that holds an answer becomes one.

    Args:
        trainer: encodes the questions with the live question encoder, and has the knowledge base.
        rows: tokenised questions, in the order of their numbers.
        numbers: of those to search for.
        relevance: of these questions, and perhaps more.
        pairs: of the same; gets positives and negatives of these.
        k: passages searched for, for a question.
        margin: see `judge`.

    Returns:
        All found passages by what became of them.
    """
    args = trainer.args
    own = numbers[args.process_index :: args.world_size]
    mined: list[tuple[int, list[int], list[int], Counter[str]]] = []
    with gathered(trainer.model):
        for start in range(0, -(-len(numbers) // args.world_size), _QUESTIONS_AT_ONCE):
            asked = list(own[start : start + _QUESTIONS_AT_ONCE])
            queries = np.empty((0, trainer.rag.question_encoder.dimension), np.float32)
            if asked:
                batch = trainer.data_collator([rows[number] for number in asked])
                (queries,) = trainer.encode_questions([batch])
            assert trainer.knowledge is not None
            found = trainer.knowledge.search(queries, k)
            for number, its, scores in zip(asked, found.rows, found.scores, strict=True):
                positives = pairs.positives[number] or relevance.positives(number, its.tolist())
                judged = judge(relevance, number, positives, its, scores, margin)
                mined.append((number, positives, judged.negatives, judged.counts))
    counts: Counter[str] = Counter()
    for number, positives, negatives, told in (each for part in of_all_processes(mined) for each in part):
        pairs.positives[number] = positives
        pairs.replace(number, negatives)
        counts += told
    return counts


def told(step: int, counts: Counter[str], new: int) -> str:
    """A line of the log on what a mining has kept, a warning where that is nothing."""
    found = sum(counts.values())
    dropped = ", ".join(f"{reason} {count:,}" for reason, count in sorted(counts.items()) if reason != KEPT)
    if not counts[KEPT]:
        return (
            f"warning: step {step}: of {found:,} candidates no hard negative is left (dropped: {dropped}): negatives "
            "are those of the batch alone; lower margin, raise candidates, or set negatives=0"
        )
    share = counts[KEPT] / found
    return f"mining: step {step}: {share:.1%} of {found:,} candidates kept, {new:,} new pairs (dropped: {dropped})"


class Mining(TrainerCallback):
    """Tells the method the step, mines again when the knowledge base has been refreshed, and writes the figures."""

    def __init__(self, method: "Retriever", trainer: "RagTrainer"):
        self.method, self.trainer = method, trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Go on from the step of a checkpoint, or report the first mining."""
        self.method.step = state.global_step
        if not state.global_step:
            self.trainer.add_scalars(self.method.mined)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Mine again; the refreshed base, whose callback comes first, has been switched to by now."""
        self.method.step = state.global_step
        refreshed = self.trainer.refreshed
        if refreshed is not None and refreshed.step != self.method.pairs.base_step and self.method.options.negatives:
            self.method.mine_again(self.trainer, refreshed.step)
            self.trainer.add_scalars(self.method.mined)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write the similarity of validation questions and their positives."""
        similarity = self.method.similarity()
        if similarity is not None:
            self.trainer.add_scalars({"Evaluation/Positive_Pair_Similarity": similarity})
