"""What training touches of a model, and how fast each part learns."""

from typing import Any

import torch
from torch import Tensor, nn

from ragtune.errors import TrainingError
from ragtune.models.rag import RagModel, RagOutput
from ragtune.training.arguments import RagTrainingArguments
from ragtune.training.live_passages import PASSAGE_INPUTS, live_doc_embeddings


class TrainedParts(nn.Module):
    """The parts of a `RagModel` that are wrapped for DDP, moved to the device and checkpointed.

    The passage encoder is among them only where it is trained, as it otherwise embeds nothing while training runs.
    There is no `config`, so that Trainer does not take `RagConfig` for one of transformers' own.
    """

    accepts_loss_kwargs = False  # else Trainer would hand `num_items_in_batch` to forward

    def __init__(self, rag: RagModel, closed_book: bool = False, end_to_end: bool = False):
        """Take the generator, unless `closed_book` the question encoder, and if `end_to_end` the passage encoder.

        They stay parts of `rag` too.
        """
        super().__init__()
        self.rag: RagModel
        self.__dict__["rag"] = rag  # not as a submodule: its passage encoder stays where it is
        self.generator = rag.generator
        if not closed_book:
            self.question_encoder = rag.question_encoder
        if end_to_end and not closed_book:
            self.passage_encoder = rag.passage_encoder.requires_grad_(True)

    @property
    def end_to_end(self) -> bool:
        """Whether the passage encoder is trained."""
        return hasattr(self, "passage_encoder")

    def forward(self, **batch: Tensor) -> RagOutput:
        """See `RagModel.forward`; a batch of `PassageTokens` stands for `doc_embeddings`, which are then live."""
        passages = {name: batch.pop(name) for name in PASSAGE_INPUTS if name in batch}
        if passages:
            batch["doc_embeddings"] = live_doc_embeddings(self.passage_encoder, **passages)
        return self.rag(**batch)

    def encode_questions(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Vectors to search with, (batch, dimension); without gradient and dropout."""
        encoder = self.question_encoder
        was_training = encoder.training
        encoder.eval()
        with torch.no_grad():
            vectors = encoder(input_ids, attention_mask)
        encoder.train(was_training)
        return vectors

    def ready(self) -> None:
        """Nothing is computed; FSDP wants the whole to be called before any of its parts."""

    def activation_checkpointing_enable(self, **options: Any) -> None:
        """Compute activations again in the backward pass instead of keeping them."""
        self.generator.backbone.activation_checkpointing_enable(**options)
        if hasattr(self, "question_encoder"):
            self.question_encoder.backbone.activation_checkpointing_enable(**options)
        if self.end_to_end:
            self.passage_encoder.backbone.activation_checkpointing_enable(**options)


def freeze(module: TrainedParts, args: RagTrainingArguments) -> None:
    """Take the gradient from the parts that `args` wants left as they are.

    Raises:
        TrainingError: nothing is left to train.
    """
    if args.freeze_generator:
        module.generator.requires_grad_(False)
    if args.freeze_question_encoder and hasattr(module, "question_encoder"):
        module.question_encoder.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise TrainingError("nothing is left to train: lift freeze_generator, or set closed_book_steps to 0")


def parameter_groups(module: nn.Module, decayed: set[str], args: RagTrainingArguments) -> list[dict[str, Any]]:
    """The optimizer's groups: each encoder at its own rate, biases and norms without weight decay.

    Args:
        module: with parameters named `question_encoder.…`, `passage_encoder.…` or otherwise.
        decayed: names of the parameters that weight decay applies to.
        args: the rates and the decay.
    """
    question_rate = args.question_encoder_learning_rate or args.learning_rate
    rates = {
        "question_encoder": question_rate,
        "passage_encoder": args.passage_encoder_learning_rate or question_rate,
    }
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            rate = rates.get(name.partition(".")[0], args.learning_rate)
            decay = args.weight_decay if name in decayed else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": parameters, "lr": rate, "weight_decay": decay} for (rate, decay), parameters in groups.items()]
