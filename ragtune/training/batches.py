"""The questions of a step, the same for every number of processes, and the batch that they become."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Sampler

IGNORED_LABEL = -100


class StepBatches(Sampler[list[int]]):
    """One process's batches in the order of training: every epoch another shuffle, known from seed and epoch alone.

    A step of 16 questions is the same 16 whether one process takes them at once, in two accumulated halves, or two
    processes take eight each. An epoch that does not fill its last step is filled up with questions from its start.

    With 5 questions, batch_size=1, processes=2, accumulation=1, and the shuffle 3 0 4 1 2, process 0 takes [3], [4],
    [2] and process 1 takes [0], [1], [3].
    """

    def __init__(
        self,
        questions: int,
        batch_size: int,
        *,
        processes: int = 1,
        rank: int = 0,
        accumulation: int = 1,
        seed: int = 0,
    ):
        self.questions = questions
        self.batch_size = batch_size
        self.processes = processes
        self.rank = rank
        self.accumulation = accumulation
        self.seed = seed
        self.epoch = 0

    @property
    def step_size(self) -> int:
        """Questions per step, over all processes and accumulated batches."""
        return self.batch_size * self.processes * self.accumulation

    def set_epoch(self, epoch: int) -> None:
        """Shuffle as in this epoch from the next iteration on."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.questions // self.step_size) * self.accumulation

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.questions)
        filled = np.resize(order, len(self) // self.accumulation * self.step_size)
        for batch in filled.reshape(-1, self.processes, self.batch_size):
            yield batch[self.rank].tolist()


class EpochLoader(DataLoader):
    """A DataLoader over `StepBatches` that passes the epoch on; it leaves the global random state alone."""

    def __init__(self, dataset: Any, batches: StepBatches, **options: Any):
        super().__init__(dataset, batch_sampler=batches, generator=torch.Generator(), **options)

    def set_epoch(self, epoch: int) -> None:
        """See `StepBatches.set_epoch`."""
        self.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]


class QuestionCollator:
    """Turns rows of the tokenised pairs into one batch, padded to its longest question and its longest answer."""

    def __init__(self, question_pad_id: int):
        self.question_pad_id = question_pad_id

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Collate.

        Args:
            rows: with `question_input_ids`, `question_attention_mask`, `labels`, `question`, `gold_ids`, `answers`.

        Returns:
            question_input_ids and question_attention_mask (B, Q), labels (B, T) with -100 for padding, and the lists
            `question`, `gold_ids` and `answers` as they are.
        """
        return {
            "question_input_ids": _pad([row["question_input_ids"] for row in rows], self.question_pad_id),
            "question_attention_mask": _pad([row["question_attention_mask"] for row in rows], 0),
            "labels": _pad([row["labels"] for row in rows], IGNORED_LABEL),
            "question": [row["question"] for row in rows],
            "gold_ids": [row["gold_ids"] for row in rows],
            "answers": [row["answers"] for row in rows],
        }


def _pad(sequences: Sequence[Sequence[int]], value: int) -> Tensor:
    tensors = [torch.tensor(sequence, dtype=torch.long) for sequence in sequences]
    return pad_sequence(tensors, batch_first=True, padding_value=value)
