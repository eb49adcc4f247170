"""The parts of a model that are trained, and the learning rate of each."""

from collections.abc import Set
from typing import Any

import torch
from torch import Tensor, nn

from ragtune.errors import TrainingError
from ragtune.models.blocks import checkpoint_activations
from ragtune.models.rag import RagModel, RagOutput
from ragtune.training.arguments import RagTrainingArguments
from ragtune.training.lora import begin_adapter
from ragtune.training.methods.base import PARTS, Method


class TrainedParts(nn.Module):
    """The parts of a `RagModel` that are wrapped for DDP, moved to the device and checkpointed, and their loss.

    Parts that the method does not ask for are not among them, as they compute nothing while training runs. There is no
    `config`, so that Trainer does not take `RagConfig` for one of transformers' own.

    Attributes:
        rag: the whole model.
        method: makes the loss.
        trained: of `PARTS`, those that learn.
        step: steps that have been trained so far.
    """

    accepts_loss_kwargs = False  # else Trainer would hand `num_items_in_batch` to forward

    def __init__(self, rag: RagModel, method: Method, frozen: Set[str] = frozenset()):
        """Take the method's parts, which stay parts of `rag` too; none learns but those that it trains.

        Args:
            rag: the model.
            method: says which parts take part, and which of them learn.
            frozen: parts that are left as they are though the method trains them.

        Raises:
            TrainingError: nothing is left to train, or one side alone of an encoder that is both.
        """
        super().__init__()
        self.rag: RagModel
        self.__dict__["rag"] = rag  # not as a submodule: parts that do not take part stay where they are
        self.method = method
        self.trained = method.trains - frozen
        self.step = 0
        if not self.trained:
            frozen_by = " or ".join(f"freeze_{part}" for part in PARTS if part in method.trains)
            raise TrainingError(f"nothing is left to train: lift {frozen_by}")
        encoders = {"question_encoder", "passage_encoder"}
        if rag.question_encoder.backbone is rag.passage_encoder.backbone and len(self.trained & encoders) == 1:
            raise TrainingError(
                f"{rag.question_encoder.name}: is one encoder for both sides, of which this method trains the "
                f"{''.join(self.trained & encoders)} alone; load it twice, as RagModel.from_parts does, and do not "
                "freeze one of the two"
            )
        for part in PARTS:
            getattr(rag, part).requires_grad_(part in self.trained)
            if part in method.parts:
                self.add_module(part, getattr(rag, part))

    def train(self, mode: bool = True) -> "TrainedParts":
        """As any module's, but that a part which does not learn in this step stays in evaluation mode."""
        super().train(mode)
        learning = self.method.trains_at(self.step) & self.trained
        for name, part in self.named_children():
            part.train(mode and name in learning)
        return self

    def forward(self, **batch: Tensor) -> RagOutput:
        """The method's loss of a batch of its `inputs`."""
        return self.method.loss(self, batch, self.step)

    def encode_questions(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Vectors to search with, (batch, dimension); without gradient and dropout."""
        encoder = self.rag.question_encoder
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
        for backbone in {part.backbone: None for part in self.children()}:  # two encoders may share one
            checkpoint_activations(backbone, **options)


def trained_parts(rag: RagModel, method: Method, args: RagTrainingArguments) -> TrainedParts:
    """A model's parts as the parameters want them trained, the generator with the adapter that `lora_rank` asks for.

    Raises:
        TrainingError, ModelError: as `TrainedParts` and `begin_adapter`.
    """
    frozen = frozen_parts(args)
    if "generator" in method.trains - frozen:
        begin_adapter(rag.generator, args)
    return TrainedParts(rag, method, frozen)


def frozen_parts(args: RagTrainingArguments) -> frozenset[str]:
    """The parts that the parameters want left as they are, whatever the method trains."""
    asked = {"question_encoder": args.freeze_question_encoder, "generator": args.freeze_generator}
    return frozenset(part for part, frozen in asked.items() if frozen)


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
