"""`retriever`: both encoders learn from contrast, without a generator.

Sources: Karpukhin et al. 2020, https://arxiv.org/abs/2004.04906; negatives mined while training goes on, Xiong et al.
2021 (ANCE), https://arxiv.org/abs/2007.00808; positive-aware, Moreira et al. 2024, https://arxiv.org/abs/2407.15831
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from ragtune.errors import TrainingError
from ragtune.settings.setting import OneOf, Range, setting
from ragtune.settings.training import MOST_PASSAGES
from ragtune.training.methods.base import InputTokens, Method

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import TrainerCallback

    from ragtune.knowledge.retrieved import Retrieved
    from ragtune.models.encoders import Encoder
    from ragtune.models.rag import RagModel, RagOutput
    from ragtune.training.trained import TrainedParts
    from ragtune.training.trainer import RagTrainer

_FILE = "hard_negatives.npz"  # of a checkpoint


@dataclass
class RetrieverOptions:
    """The settings of `retriever` alone."""

    pairs: Annotated[str, OneOf(("questions", "titles"))] = setting(
        "questions", "what is trained on: `questions`, or `titles` of the corpus with the texts under them"
    )
    loss: Annotated[str, OneOf(("infonce", "contrastive"))] = setting(
        "infonce", "`infonce` (all passages of the step's batch are negatives), or `contrastive` (pairs, by distance)"
    )
    encoders: Annotated[str, OneOf(("auto", "one", "two"))] = setting(
        "auto", "`one` for both sides, or `two`; `auto` means one where both have the same weights to begin with"
    )
    negatives: Annotated[int, Range(0)] = setting(4, "hard negatives per question and step; 0 means the batch's alone")
    hardest: Annotated[int, Range(1)] = setting(10, "hard negatives kept per question, from which a step draws")
    candidates: Annotated[int, Range(1, MOST_PASSAGES)] = setting(
        50, "passages searched per question for hard negatives"
    )
    margin: Annotated[float, Range(-1, 1)] = setting(
        0.05, "share of the positive's score by which a hard negative has to be below it"
    )
    mine_every: Annotated[int, Range(0)] = setting(
        200, "steps between two re-encodings of the corpus, each of which is mined; 0 mines once, before the first step"
    )
    chunk_size: Annotated[int, Range(0)] = setting(
        0, "texts per chunk of gradient caching, which lets large batches fit; 0 keeps all activations in memory"
    )
    distance: Annotated[float, Range(above=0, most=2)] = setting(
        0.5, "cosine distance that `contrastive` wants of a negative pair"
    )

    def __post_init__(self) -> None:
        if self.negatives > self.hardest:
            raise TrainingError(
                f"negatives={self.negatives}: is more than hardest={self.hardest}, of which they are drawn; raise that"
            )


class Retriever(Method):
    """InfoNCE over the batch's passages, of all processes, and over hard negatives that the current encoders mine."""

    options_class = RetrieverOptions
    trains = frozenset({"question_encoder", "passage_encoder"})
    marginalization = ""
    needs_search = False
    loss_by_batch = True
    best_by = "loss"  # of validation: its recall is against a knowledge base that is some steps old
    options: RetrieverOptions

    def __init__(self, options: RetrieverOptions | None = None):
        super().__init__(options)
        self.step = 0
        self.mined: dict[str, float] = {}  # figures of the last mining
        self._similarities: list[Tensor] = []

    def check(self, parameters: Mapping[str, Any]) -> None:
        """Accumulated batches do not see each other's passages."""
        count = parameters.get("gradient_accumulation_steps") or 1
        if count > 1:
            raise TrainingError(
                f"gradient_accumulation_steps={count}: method=retriever contrasts the passages of one batch; raise "
                "batch_size, and set chunk_size in method_options where that does not fit into memory"
            )

    def refresh_every(self, asked: int) -> int:
        """As often as the corpus is mined."""
        return self.options.mine_every if self.options.negatives else 0

    def adapt(self, rag: "RagModel") -> None:
        """Give both encoders one set of weights, each keeping its own prompt.

        Raises:
            TrainingError: they are of two kinds.
        """
        question, passage = rag.question_encoder, rag.passage_encoder
        same = _same_weights(question, passage)
        if self.options.encoders == "two" or (self.options.encoders == "auto" and not same):
            return
        if not same:
            raise TrainingError(
                f"encoders=one: {question.name} and {passage.name} have other weights; give one encoder for both, "
                "or set encoders=two"
            )
        passage.backbone, passage.dense = question.backbone, question.dense

    def prepare(self, trainer: "RagTrainer") -> Any:
        """Find each question's positives, mine the first hard negatives, and leave out questions without a positive."""
        from ragtune.training.methods.hard_negatives import Relevance
        from ragtune.training.methods.live_passages import PassageTokens
        from ragtune.training.methods.mined_pairs import MinedPairs, key_of
        from ragtune.training.methods.title_pairs import Untitled, title_pairs

        passages, rag = trainer.prompts.passages, trainer.rag
        self._rows, self._tokens = trainer.train_dataset, trainer.tokens.passages
        if self.options.pairs == "titles":
            self._rows = title_pairs(passages, rag.question_encoder, rag.config.max_question_tokens)
            self._tokens = PassageTokens(rag.passage_encoder, Untitled(passages))
        asked = [row for split in (self._rows, trainer.eval_dataset or ()) for row in split]
        self.relevance = Relevance(passages, [row["gold_ids"] for row in asked], [row["answers"] for row in asked])
        questions = [key_of(row["question"], row["gold_ids"]) for row in asked]
        self.pairs = MinedPairs(questions, len(self._rows), self.options.hardest, trainer.args.seed)
        self.pairs.positives = [self.relevance.positives(number) for number in range(len(asked))]
        self._mine(trainer, asked, range(len(asked)))
        known = [number for number in range(len(self._rows)) if self.pairs.positives[number]]
        if not known:
            raise TrainingError(
                f"none of {len(self._rows):,} questions has a gold passage in the knowledge base, or an answer in the "
                f"first {self.options.candidates} that it finds; do questions and corpus belong together? Raise "
                "candidates, or set pairs=titles"
            )
        judged_by_loss = trainer.args.eval_strategy != "no" and trainer.args.metric_for_best_model == "loss"
        validating = self.pairs.positives[len(self._rows) :]
        if judged_by_loss and validating and not any(validating):  # the loss would be 0 at every step
            raise TrainingError(
                f"none of {len(validating):,} validation questions has a gold passage in the knowledge base, or an "
                f"answer in the first {self.options.candidates} that it finds, so that its loss tells no step from "
                "another; give others, or raise candidates"
            )
        return self._rows if len(known) == len(self._rows) else self._rows.select(known)

    def mine_again(self, trainer: "RagTrainer", base_step: int) -> None:
        """Mine for the questions that are trained on, from the base of a snapshot's step; every process calls it."""
        self.pairs.base_step = base_step
        known = [number for number in range(len(self._rows)) if self.pairs.positives[number]]
        self._mine(trainer, self._rows, known)

    def similarity(self) -> float | None:
        """The mean cosine of validation questions and their positives since the last call, over all processes."""
        import torch

        from ragtune.training.distributed.all_processes import of_all_processes

        own = torch.cat(self._similarities) if self._similarities else torch.empty(0)
        self._similarities = []
        # Batches and processes have unequal numbers of questions.
        everyone = of_all_processes((own.sum().item(), len(own)))
        total, count = (sum(part) for part in zip(*everyone, strict=True))
        return total / count if count else None

    def save(self, checkpoint: Path) -> None:
        """Write the hard negatives."""
        self.pairs.save(checkpoint / _FILE)

    def load(self, checkpoint: Path) -> None:
        """Read back the hard negatives."""
        self.pairs.load(checkpoint / _FILE)

    def inputs(self, batch: dict[str, Any], found: "Retrieved | None", tokens: InputTokens) -> "dict[str, Tensor]":
        """Questions, the distinct passages drawn for them, and which are no negatives of which question."""
        import numpy as np
        import torch

        from ragtune.training.methods.mined_pairs import key_of

        numbers = self.pairs.numbers(map(key_of, batch["question"], batch["gold_ids"]))
        rows = self.pairs.draw(numbers, self.options.negatives, self.step)
        trained = numbers[0] < self.pairs.trained
        some = rows if (rows >= 0).any() else np.zeros_like(rows)
        passages = (self._tokens if trained else tokens.passages).build(some)
        excluded = self.relevance.excluded(numbers, np.arange(len(rows)), rows.T.reshape(-1))
        names = ("question_input_ids", "question_attention_mask")
        more = {"numbers": np.array(numbers), "passage_rows": rows, "excluded": excluded}
        return {name: batch[name] for name in names} | passages | {k: torch.from_numpy(v) for k, v in more.items()}

    def loss(self, parts: "TrainedParts", inputs: "dict[str, Tensor]", step: int) -> "RagOutput":
        """The contrastive loss that the options ask for."""
        from ragtune.models.rag import RagOutput
        from ragtune.training.methods import contrast

        rows, excluded, chunk = inputs["passage_rows"], inputs["excluded"], self.options.chunk_size
        at_most = rows.numel() if parts.training else 0
        asked, asked_mask = inputs["question_input_ids"], inputs["question_attention_mask"]
        texts, text_mask = inputs["passage_input_ids"], inputs["passage_attention_mask"]
        questions = contrast.encode(parts.rag.question_encoder, asked, asked_mask, chunk)
        vectors = contrast.encode(parts.rag.passage_encoder, texts, text_mask, chunk, at_most)
        passages = vectors[inputs["passage_places"]]
        gathers = parts.training and contrast.in_several_processes()
        if not parts.training:  # where a question may have no positive
            known = rows[:, 0] >= 0
            if not known.any():
                return RagOutput(loss=questions.sum() * 0)
            excluded = excluded.view(len(rows), -1, len(rows))[known][:, :, known].flatten(1)
            questions, passages, rows = questions[known], passages[known], rows[known]
            self._similarities.append(contrast.similarities(questions, passages[:, 0]))
        if self.options.loss == "contrastive":
            loss = contrast.contrastive(questions, passages, excluded, rows >= 0, self.options.distance)
        else:
            if gathers:
                excluded = self._excluded_of_all(inputs["numbers"], rows)
            loss = contrast.info_nce(questions, passages, excluded, parts.rag.config.temperature, gathers)
        hard = (rows[:, 1:] >= 0).sum(dim=1).float().mean()
        similarity = contrast.similarities(questions, passages[:, 0]).mean()
        return RagOutput(loss=loss, metrics={"positive_similarity": similarity, "hard_negatives": hard})

    def callbacks(self, trainer: "RagTrainer") -> "list[TrainerCallback]":
        """The one that mines."""
        from ragtune.training.methods.mining import Mining

        return [Mining(self, trainer)]

    def _mine(self, trainer: "RagTrainer", rows: Any, numbers: Sequence[int]) -> None:
        from ragtune.training.methods.hard_negatives import KEPT
        from ragtune.training.methods.mining import mine, told
        from ragtune.training.telemetry.progress_lines import say

        options, pairs = self.options, self.pairs
        if options.negatives or not all(pairs.positives):
            counts = mine(trainer, rows, numbers, self.relevance, pairs, options.candidates, options.margin)
        if not options.negatives:
            self.mined = {"Dataset/Total_Size": float(pairs.size)}
            return
        new = pairs.count_new()
        if trainer.is_world_process_zero():
            say(told(pairs.base_step, counts, new))
        self.mined = {
            "Hard_Negatives/New_Pairs_Added": float(new),
            "Hard_Negatives/Kept_Fraction": counts[KEPT] / max(1, counts.total()),
            "Dataset/Total_Size": float(pairs.size),
        }

    def _excluded_of_all(self, numbers: "Tensor", rows: "Tensor") -> "Tensor":
        """As `excluded` of `inputs`, for the pool of all processes; a GPU is waited for, as texts are compared."""
        import torch
        import torch.distributed as dist

        from ragtune.training.methods.contrast import gathered_rows

        pool = gathered_rows(rows).T.reshape(-1).cpu().numpy()
        own = dist.get_rank() * len(rows) + torch.arange(len(rows))
        return torch.from_numpy(self.relevance.excluded(numbers.tolist(), own.numpy(), pool)).to(rows.device)


def _same_weights(question: "Encoder", passage: "Encoder") -> bool:
    """Tell whether two encoders are one, but for their prompts."""
    import torch

    if type(question.backbone) is not type(passage.backbone):
        return False
    one, other = question.state_dict(), passage.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
