"""`federated`: several sites train by another method, each on its own questions, and their weights are averaged.

Source: McMahan et al. 2017 (FedAvg), https://arxiv.org/abs/1602.05629
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from ragtune.errors import TrainingError
from ragtune.settings.setting import GIVEN, OneOf, Range, setting
from ragtune.settings.training import Training
from ragtune.training.methods.base import InputTokens, Method

if TYPE_CHECKING:
    from torch import Tensor

    from ragtune.knowledge.retrieved import Retrieved
    from ragtune.models.rag import RagOutput
    from ragtune.training.trained import TrainedParts

AVERAGES = ("both", "retriever", "generator", "adapters")
SCHEDULES = ("linear", "constant", "constant_with_warmup")
_ROUND_SECONDS = 86_400.0


def check_one(name: str, count: int) -> None:
    """Refuse several processes, or nodes, of which each would be a federation.

    Raises:
        TrainingError: there are several.
    """
    if count > 1:
        raise TrainingError(f"{name}={count}: method=federated starts its sites itself, one per GPU; set {name} to 1")


@dataclass(frozen=True)
class FederatedOptions:
    """The settings of a federation."""

    sites: Annotated[int, Range(2)] = setting(3, "sites; a simulation divides the questions among so many")
    rounds: Annotated[int, Range(1)] = setting(
        5, "rounds, which share `max_steps`; the weights are averaged after each"
    )
    local_method: Annotated[str, GIVEN] = setting("rag", "method by which each site trains")
    local_options: dict = setting({}, "`method_options` of that method")
    average: Annotated[str, OneOf(AVERAGES)] = setting(
        "both",
        "what travels and is averaged: the `retriever`, the `generator`, `both`, or the generator's LoRA `adapters` "
        "alone; what else is trained stays at its site",
    )
    strategy: Annotated[str, GIVEN] = setting("FedAvg", "Flower's strategy, by the name of its class")
    strategy_options: dict = setting({}, "arguments of the strategy, such as `proximal_mu` of FedProx")
    min_sites: Annotated[int, Range(1)] = setting(1, "fewest sites whose weights make a round; with fewer it stops")
    round_seconds: Annotated[float, Range(above=0)] = setting(
        _ROUND_SECONDS, "seconds after which a round goes on without the sites that have not answered"
    )

    def __post_init__(self) -> None:
        """Refuse what no federation can do.

        Raises:
            TrainingError: with the way out.
        """
        if self.local_method == "federated":
            raise TrainingError("local_method=federated: a site trains by a method of its own, such as rag")
        if self.min_sites > self.sites:
            raise TrainingError(f"min_sites={self.min_sites}: there are sites={self.sites}; lower it")


class Federated(Method):
    """The method of its sites, whose parts, inputs and loss are its own; the training itself is a federation's."""

    options_class = FederatedOptions
    trained_by = "ragtune.federation.simulate"

    def __init__(self, options: Any = None) -> None:
        """Make the sites' method, of which a run asks what it trains."""
        from ragtune.training.methods.options import make_method  # which knows all methods, this one too

        super().__init__(options)
        local = self.local = make_method(self.options.local_method, self.options.local_options)
        self.trains, self.uses, self.marginalization = local.trains, local.uses, local.marginalization
        self.needs_search, self.best_by = local.needs_search, local.best_by
        if self.refreshes:
            raise TrainingError(
                f"local_method={self.options.local_method}: trains the passage encoder, and every site would have to "
                "embed its passages anew in each round; take rag, lsr, ralt or alternate"
            )

    def check(self, parameters: Mapping[str, Any]) -> None:
        """As the sites' method, and that the rounds can share the steps.

        Raises:
            TrainingError: with the way out.
        """
        self.local.check(parameters)
        rounds, steps = self.options.rounds, int(parameters.get("max_steps", Training.max_steps))
        if steps < rounds:
            raise TrainingError(f"max_steps={steps}: method=federated divides them among rounds={rounds}; raise it")
        warmup = parameters.get("warmup_steps", 0)
        if warmup >= steps // rounds:
            raise TrainingError(
                f"warmup_steps={warmup}: each of the rounds={rounds} has {steps // rounds} steps, and warms up anew; "
                "lower it, or give a share below 1"
            )
        turn, longest = getattr(self.local.options, "alternate_every", None), steps // rounds // 2
        if turn is not None and not 0 < turn <= longest:
            raise TrainingError(
                f"local_method=alternate: its turns begin anew in each of the rounds={rounds} of {steps // rounds} "
                f"steps, and with alternate_every={turn} not each part has one; set alternate_every in local_options "
                f"to {max(longest, 1)} or fewer, and not to 0, in rounds of two steps or more"
            )
        for name in ("processes", "nodes"):
            check_one(name, parameters.get(name, 1))
        schedule = str(parameters.get("lr_scheduler_type") or SCHEDULES[0])
        if schedule not in SCHEDULES:
            raise TrainingError(f"lr_scheduler_type={schedule}: of a federation must be one of {', '.join(SCHEDULES)}")
        if self.options.average == "adapters" and not parameters.get("lora_rank"):
            raise TrainingError("average=adapters: there are none; set lora_rank, or average another part")

    def inputs(self, batch: dict[str, Any], found: "Retrieved | None", tokens: InputTokens) -> "dict[str, Tensor]":
        """As the sites' method."""
        return self.local.inputs(batch, found, tokens)

    def loss(self, parts: "TrainedParts", inputs: "dict[str, Tensor]", step: int) -> "RagOutput":
        """As the sites' method."""
        return self.local.loss(parts, inputs, step)
