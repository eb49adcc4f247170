"""`alternate`: `ralt`, which trains the generator, and `lsr`, which trains the retriever, in turn.

Source: Lin et al. 2023 (RA-DIT), https://arxiv.org/abs/2310.01352, who do each once
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from ragtune.errors import TrainingError
from ragtune.settings.setting import OneOf, Range, setting
from ragtune.training.methods.base import InputTokens
from ragtune.training.methods.lsr import Lsr, LsrOptions
from ragtune.training.methods.ralt import EXAMPLES, EXAMPLES_HELP, Ralt, RaltOptions

if TYPE_CHECKING:
    from torch import Tensor

    from ragtune.knowledge.retrieved import Retrieved
    from ragtune.models.rag import RagOutput
    from ragtune.training.trained import TrainedParts
    from ragtune.training.trainer import RagTrainer

TURNS = ("ralt", "lsr")


@dataclass(frozen=True)
class AlternateOptions(LsrOptions):
    """The settings of `Alternate`: those of `Lsr`, and of the turns."""

    alternate_every: Annotated[int, Range(0)] = setting(0, "steps per turn; 0 means one epoch")
    examples: Annotated[str, OneOf(EXAMPLES)] = setting("all", EXAMPLES_HELP)
    first: Annotated[str, OneOf(TURNS)] = setting("ralt", "whose turn is first: `ralt` or `lsr`")


class Alternate(Lsr):
    """`Ralt`'s loss in its turns and `Lsr`'s in the others; a part rests, weights and moments, in the other's turn."""

    options_class = AlternateOptions
    uses = frozenset()
    marginalization = "sequence"
    best_by = "em"

    def __init__(self, options: Any = None) -> None:
        """Keep the options; how long an epoch is, `prepare` finds out."""
        super().__init__(options)
        self.encoders = self.trains
        self.trains = self.encoders | {"generator"}
        self.steps_per_turn = self.options.alternate_every
        self._ralt = Ralt(RaltOptions(examples=self.options.examples))

    def inputs(self, batch: dict[str, Any], found: "Retrieved | None", tokens: InputTokens) -> "dict[str, Tensor]":
        """As `Lsr.inputs`, and which passages are examples."""
        assert found is not None
        return super().inputs(batch, found, tokens) | self._ralt.example_mask(batch, found, tokens)

    def turn(self, step: int) -> str:
        """Whose turn a step is, by the step alone, so that a resumed run goes on in the right one."""
        first = TURNS.index(self.options.first)
        return TURNS[(first + step // self.steps_per_turn) % 2]

    def trains_at(self, step: int) -> frozenset[str]:
        """The generator, or the encoders."""
        return frozenset({"generator"}) if self.turn(step) == "ralt" else self.encoders

    def computes_at(self, step: int) -> frozenset[str]:
        """The generator alone in its own turn."""
        return frozenset({"generator"}) if self.turn(step) == "ralt" else self.parts

    def check(self, parameters: Mapping[str, Any]) -> None:
        """As `Lsr.check`; no part may be frozen."""
        super().check(parameters)
        for part in sorted(self.trains):
            if parameters.get(f"freeze_{part}"):
                raise TrainingError(
                    f"freeze_{part}=True: method=alternate trains the parts in turn, and would train nothing in some; "
                    "take method=lsr or method=ralt, which leave the other part as it is"
                )

    def prepare(self, trainer: "RagTrainer") -> Any:
        """The rows as they are; a turn of an epoch becomes one of so many steps."""
        if not self.steps_per_turn:
            self.steps_per_turn = len(trainer.get_train_dataloader()) // trainer.args.gradient_accumulation_steps
        return super().prepare(trainer)

    def loss(self, parts: "TrainedParts", inputs: "dict[str, Tensor]", step: int) -> "RagOutput":
        """The loss of this step's turn; in an evaluation the sum of both, which can be compared between steps."""
        from ragtune.models.losses import each_passage_loss
        from ragtune.training.methods.candidates import first_candidates, keep

        turn = self.turn(step)
        if parts.training and turn == "ralt":
            n_docs = parts.rag.config.n_docs
            if inputs["doc_mask"].shape[1] > n_docs:
                inputs = keep(inputs, first_candidates(inputs, n_docs))
            output = self._ralt.loss(parts, inputs, step)
        else:
            output = super().loss(parts, inputs, step)
        assert output.loss is not None
        if parts.training:
            return output.with_loss(output.loss, **{f"{turn}_loss": output.loss}, **(output.metrics or {}))
        assert output.answer_log_likelihoods is not None
        mask = inputs.get("example_mask", inputs["doc_mask"])[:, : output.answer_log_likelihoods.shape[1]]
        of_ralt = each_passage_loss(output.answer_log_likelihoods, mask)
        return output.with_loss(output.loss + of_ralt)
