"""Metrics of a run's retrieval while it trains: speed, entropy, distinct passages, and signs of a collapse."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ragtune.knowledge.retrieved import PADDING_ROW
from ragtune.models.inputs import PassageRows
from ragtune.questions.relevance import are_gold
from ragtune.training.distributed.all_processes import of_all_processes
from ragtune.training.telemetry.throughput import Work

_JUDGED_QUESTIONS = 16  # fewer say nothing about a collapse
_FEW_DISTINCT = 0.1  # of the passages that as many questions could have retrieved
_NEAR_CERTAIN = 0.01  # of log(n_docs)
_NEAR_UNIFORM = 0.999


@dataclass
class Clock:
    """Totals of a run, over all its resumptions.

    Attributes:
        seconds: of training, without evaluations and checkpoints.
        search_seconds: of these, spent on encoding the questions for the search and on waiting for what it finds.
        questions: seen by all processes together.
        tokens: of the generator, computed by all processes together; padding does not count.
    """

    seconds: float = 0.0
    search_seconds: float = 0.0
    questions: int = 0
    tokens: int = 0

    def figures(self) -> dict[str, float]:
        """samples_per_second; tokens_per_second where a generator computes; search_fraction where there is a search."""
        seconds = max(self.seconds, 1e-9)
        figures = {"samples_per_second": self.questions / seconds}
        if self.tokens:
            figures["tokens_per_second"] = self.tokens / seconds
        if self.search_seconds:
            figures["search_fraction"] = self.search_seconds / seconds
        return figures

    def as_dict(self) -> dict[str, float]:
        """For a checkpoint; `Clock(**…)` reads it back."""
        return asdict(self)


@dataclass
class Window:
    """Sums over the steps since the last line of the log, in this process."""

    questions: int = 0
    tokens: int = 0
    flops: float = 0.0
    gold_known: int = 0
    gold_found: int = 0
    search_seconds: float = 0.0
    paused_seconds: float = 0.0
    entropies: list[Tensor] = field(default_factory=list)
    metrics: dict[str, list[Tensor]] = field(default_factory=dict)
    rows: list[npt.NDArray[np.int64]] = field(default_factory=list)
    start: float = field(default_factory=time.perf_counter)

    def add_retrieved(
        self, rows: npt.NDArray[np.int64], gold_ids: Sequence[Sequence[str]], passages: PassageRows
    ) -> None:
        """Count a batch's passages.

        Args:
            rows: (B, k) rows of `passages`; -1 for padding.
            gold_ids: B lists; an empty one where no gold passage is known.
            passages: by row.
        """
        self.questions += len(rows)
        self.rows.append(np.unique(rows[rows != PADDING_ROW]))
        for own_rows, gold in zip(rows, gold_ids, strict=True):
            if gold:
                self.gold_known += 1
                sources = (passages[row].source_ids for row in own_rows[own_rows != PADDING_ROW].tolist())
                self.gold_found += any(are_gold(sources, gold))

    def add_work(self, work: Work) -> None:
        """Count what a batch costs."""
        self.tokens += work.tokens
        self.flops += work.flops

    def add_entropy(self, doc_log_probs: Tensor) -> None:
        """Count p(z | x) of a batch, given as log-probabilities (B, k); -inf for padding."""
        self.entropies.append(entropy(doc_log_probs.detach()).mean())

    def add_metrics(self, metrics: Mapping[str, Tensor]) -> None:
        """Keep scalars of a batch that a method wants logged; the log has their means."""
        for name, value in metrics.items():
            self.metrics.setdefault(name, []).append(value.detach().float())

    def close(
        self, clock: Clock, n_docs: int, base_rows: int, peak_flops: float = 0.0
    ) -> tuple[dict[str, float], list[str]]:
        """Sum up over all processes and add to the run's totals; every process must call it.

        Args:
            clock: the run's totals.
            n_docs: passages retrieved for a question; 0 where there is no retrieval.
            base_rows: passages in the knowledge base.
            peak_flops: per second, of a process's device; 0 where that is not known, and then there is no MFU.

        Returns:
            The figures for the log, and warnings.
        """
        seconds = time.perf_counter() - self.start - self.paused_seconds
        mean_entropy = torch.stack(self.entropies).mean().item() if self.entropies else math.nan
        own = (
            *(self.questions, self.gold_known, self.gold_found, self.tokens),
            *(self.flops, seconds, self.search_seconds, mean_entropy),
        )
        rows = np.unique(np.concatenate(self.rows)) if self.rows else np.empty(0, np.int64)
        own_metrics = {name: torch.stack(values).mean().item() for name, values in self.metrics.items()}
        everyone: list[tuple] = of_all_processes((own, rows, own_metrics))
        questions, gold_known, gold_found, tokens = (sum(part[0][i] for part in everyone) for i in range(4))
        flops, seconds, search_seconds, mean_entropy = (
            float(np.mean([part[0][i] for part in everyone])) for i in range(4, 8)
        )
        distinct = len(np.unique(np.concatenate([part[1] for part in everyone])))
        passed = Clock(seconds, search_seconds, questions, tokens)
        clock.seconds += passed.seconds
        clock.search_seconds += passed.search_seconds
        clock.questions += passed.questions
        clock.tokens += passed.tokens
        figures = passed.figures()
        for name in own_metrics:
            figures[name] = float(np.mean([part[2][name] for part in everyone if name in part[2]]))
        if peak_flops:
            figures["mfu"] = flops / max(seconds, 1e-9) / peak_flops
        if not n_docs:
            return figures, []
        figures["distinct_passages"] = float(distinct)
        if self.entropies:
            figures["entropy"] = mean_entropy
        if gold_known:
            figures[f"train_recall@{n_docs}"] = gold_found / gold_known
        return figures, collapse_warnings(questions, distinct, mean_entropy, n_docs, base_rows)


def entropy(log_probs: Tensor) -> Tensor:
    """H(p) = -Σ p log p in nats over the last dimension; -inf counts as p = 0. (B, k) to (B,)."""
    return torch.special.entr(log_probs.exp()).sum(dim=-1)


def collapse_warnings(questions: int, distinct: int, mean_entropy: float, n_docs: int, base_rows: int) -> list[str]:
    """Warnings of a retrieval that looks wrong, each with a remedy to try.

    Args:
        questions: asked in the window.
        distinct: passages that they retrieved, each counted once.
        mean_entropy: of p(z | x), in nats; NaN where the loss does not compute it.
        n_docs: passages retrieved for a question.
        base_rows: passages in the knowledge base.
    """
    if questions < _JUDGED_QUESTIONS:
        return []
    found = []
    if distinct < _FEW_DISTINCT * min(questions * n_docs, base_rows):
        found.append(
            f"retrieval is collapsing: {questions} questions retrieved only {distinct} distinct passages; try a lower "
            "question_encoder_learning_rate, a longer warm-up, or freeze_question_encoder"
        )
    if n_docs > 1 and mean_entropy < _NEAR_CERTAIN * math.log(n_docs):
        found.append(
            f"p(z | x) puts all its weight on one passage (entropy {mean_entropy:.4f} of {math.log(n_docs):.2f} nats): "
            "the question encoder hardly learns; try a higher temperature or a lower question_encoder_learning_rate"
        )
    if n_docs > 1 and mean_entropy > _NEAR_UNIFORM * math.log(n_docs):
        found.append(
            f"p(z | x) is uniform (entropy {mean_entropy:.4f} of {math.log(n_docs):.4f} nats): passages hardly differ "
            "in score; try a lower temperature, about 0.05 where the encoders' vectors have length 1"
        )
    return found
