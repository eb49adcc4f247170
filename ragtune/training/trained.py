"""What training touches of a model, and how fast each part learns."""

from typing import Any

from torch import Tensor, nn

from ragtune.errors import TrainingError
from ragtune.models.rag import RagModel, RagOutput
from ragtune.training.arguments import RagTrainingArguments


class TrainedParts(nn.Module):
    """The parts of a `RagModel` that are wrapped for DDP, moved to the device and checkpointed.

    The passage encoder stays outside: it embeds nothing while training runs. There is no `config`, so that Trainer
    does not take `RagConfig` for one of transformers' own.
    """

    accepts_loss_kwargs = False  # else Trainer would hand `num_items_in_batch` to forward

    def __init__(self, rag: RagModel, closed_book: bool = False):
        """Take the generator, and unless `closed_book` the question encoder; they stay parts of `rag` too."""
        super().__init__()
        self.rag: RagModel
        self.__dict__["rag"] = rag  # not as a submodule: its passage encoder stays where it is
        self.generator = rag.generator
        if not closed_book:
            self.question_encoder = rag.question_encoder

    def forward(self, **batch: Tensor) -> RagOutput:
        """See `RagModel.forward`."""
        return self.rag(**batch)

    def activation_checkpointing_enable(self, **options: Any) -> None:
        """Compute activations again in the backward pass instead of keeping them."""
        self.generator.activation_checkpointing_enable(**options)
        if hasattr(self, "question_encoder"):
            self.question_encoder.backbone.activation_checkpointing_enable(**options)


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
    """The optimizer's groups: the question encoder at its own rate, biases and norms without weight decay.

    Args:
        module: with parameters named `question_encoder.…` or otherwise.
        decayed: names of the parameters that weight decay applies to.
        args: the rates and the decay.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            own_rate = args.question_encoder_learning_rate if name.startswith("question_encoder.") else 0.0
            decay = args.weight_decay if name in decayed else 0.0
            groups.setdefault((own_rate or args.learning_rate, decay), []).append(parameter)
    return [{"params": parameters, "lr": rate, "weight_decay": decay} for (rate, decay), parameters in groups.items()]
