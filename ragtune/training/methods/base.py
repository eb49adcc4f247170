"""The `Method` base class: one way to train a `RagModel`. A new one is a subclass in a file, and a line in `METHODS`.

Importing a method imports no torch, so that a run's parameters can be checked where there is none: annotations alone
name it, and a method that computes with more than its tensors' own operators imports what it needs in `loss`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor
    from transformers import TrainerCallback

    from ragtune.knowledge.retrieved import Retrieved
    from ragtune.models.inputs import PromptBuilder
    from ragtune.models.rag import RagModel, RagOutput
    from ragtune.training.methods.live_passages import PassageTokens
    from ragtune.training.trained import TrainedParts
    from ragtune.training.trainer import RagTrainer

PARTS = ("generator", "question_encoder", "passage_encoder")


@dataclass(frozen=True)
class NoOptions:
    """The settings of a method that has none of its own."""


@dataclass(frozen=True)
class InputTokens:
    """Tokens of the texts that a run meets, each made once.

    Attributes:
        prompts: of the generator; `prompts.passages` are the knowledge base's passages by row.
        passages: of the passage encoder.
    """

    prompts: "PromptBuilder"
    passages: "PassageTokens"


class Method(ABC):
    """The parts that a run trains, what they are fed and their loss.

    A base class rather than a protocol, so that a method writes down only what sets it apart. Attributes may be set in
    `__init__` where they follow from the options.

    Attributes:
        options_class: dataclass of the settings that this method alone knows, given as `method_options`; fields by
            `ragtune.settings.setting.setting`, with bounds in their annotations. Its `__post_init__` raises a
            TrainingError for values that do not go together.
        trains: of `PARTS`, those that may learn; every other part is frozen. A trained passage encoder means that the
            knowledge base is rebuilt in the background, and once more in the end.
        uses: of `PARTS`, frozen ones that the loss computes with besides.
        marginalization: how the trained model marginalises over passages at inference: "sequence", "token" or "none",
            see `RagConfig`; "" leaves the base model's own.
        needs_search: passages for a step's questions are searched for before it; False gives `inputs` None.
        loss_by_batch: a question's loss depends on the questions beside it, so that two validation losses can be
            compared only where as many were evaluated at once.
        best_by: the validation metric that chooses the best step, unless `metric_for_best_model` says another: "em",
            which takes a generator among the parts, "recall@1", "recall@5", "recall@<n_docs>", or "loss".
        trained_by: module whose `train_model(prepared)` trains the model of a run, by name as it may be of a room below
            this one; "" is `ragtune.training.run`, step by step through `inputs` and `loss`.
    """

    options_class: ClassVar[type] = NoOptions
    trains: frozenset[str]
    uses: frozenset[str] = frozenset()
    marginalization: str = "sequence"
    needs_search: bool = True
    loss_by_batch: bool = False
    best_by: str = "em"
    trained_by: ClassVar[str] = ""

    def __init__(self, options: Any = None):
        """Keep the options, the defaults where there are none given."""
        self.options = self.options_class() if options is None else options

    @property
    def parts(self) -> frozenset[str]:
        """Those that take part: moved to the device, wrapped for DDP or FSDP, and checkpointed."""
        searching = {"question_encoder"} if self.needs_search else set()
        return self.trains | self.uses | searching

    @property
    def refreshes(self) -> bool:
        """True where the knowledge base has to follow the passage encoder."""
        return "passage_encoder" in self.trains

    @property
    def leaves_unused(self) -> bool:
        """True where a step may leave trained weights without a gradient, for which DDP has to look."""
        return type(self).trains_at is not Method.trains_at

    def trains_at(self, step: int) -> frozenset[str]:
        """Of `trains`, the parts that learn in a step, counted from 0; the others are in evaluation mode in it."""
        return self.trains

    def computes_at(self, step: int) -> frozenset[str]:
        """Of `parts`, those that a step's loss computes with."""
        return self.parts

    def check(self, parameters: Mapping[str, Any]) -> None:  # noqa: B027
        """Refuse settings of the training that do not go with this method; those that are not given are passed over.

        Raises:
            TrainingError: with the way out.
        """

    def refresh_every(self, asked: int) -> int:
        """Steps between two re-encodings of the knowledge base, where it is refreshed; 0 for none before the end."""
        return asked

    def adapt(self, rag: "RagModel") -> None:  # noqa: B027
        """Change the base model before anything is made of it, such as to give two parts the same weights."""

    def prepare(self, trainer: "RagTrainer") -> Any:
        """The rows to train on; called once, with the base model's weights, before the first or the resumed step."""
        return trainer.train_dataset

    def save(self, checkpoint: "Path") -> None:  # noqa: B027
        """Write what a resumed run needs beside the weights, in the first process."""

    def load(self, checkpoint: "Path") -> None:  # noqa: B027
        """Read back what `save` wrote."""

    def n_retrieved(self, n_docs: int) -> int:
        """Passages to search for, for a question: n_docs, or more for a method that chooses among them."""
        return n_docs

    @abstractmethod
    def inputs(self, batch: dict[str, Any], found: "Retrieved | None", tokens: InputTokens) -> "dict[str, Tensor]":
        """The tensors that `loss` gets, on the CPU, every one with a leading dimension.

        It is called in the thread of the search, while another step trains, and draws nothing at random there.

        Args:
            batch: from `QuestionCollator`: question_input_ids, question_attention_mask, labels, question, gold_ids,
                answers.
            found: the passages that the search gave for the batch; None without a search.
            tokens: of prompts and passages.
        """

    @abstractmethod
    def loss(self, parts: "TrainedParts", inputs: "dict[str, Tensor]", step: int) -> "RagOutput":
        """The batch's mean loss; inside DDP or FSDP, so that every process calls the same parts equally often.

        Args:
            parts: `parts.rag` is the whole model; `parts.training` is False in an evaluation.
            inputs: from `inputs`, on the device.
            step: steps that have been trained so far.

        Returns:
            With `loss`; with `doc_log_probs` where p(z | x) was computed, for the log's entropy and the evaluation's
            answers; with `metrics`, scalars that are logged, where there are any.
        """

    def callbacks(self, trainer: "RagTrainer") -> "list[TrainerCallback]":
        """Further callbacks of the training, such as one that mines negatives."""
        return []
