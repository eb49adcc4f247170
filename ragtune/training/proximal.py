"""The proximal term of FedProx: what is trained is pulled to where the run began.

Source: Li et al. 2020, https://arxiv.org/abs/1812.06127
"""

from typing import Any

from torch import nn
from transformers import TrainerCallback


class Proximal(TrainerCallback):
    """Adds mu·(w − w₀), the gradient of mu / 2 · ‖w − w₀‖², to every trained weight's, behind the clipping."""

    def __init__(self, model: nn.Module, mu: float) -> None:
        """Keep w₀, the trained weights as they are now: before a resumed run loads its checkpoint."""
        self.mu = mu
        self.start = {name: weight.detach().clone() for name, weight in _trained(model)}

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **context: Any) -> None:
        """Add to the gradients of a step."""
        for name, weight in _trained(context["model"]):
            start = self.start[name].to(weight.device)
            if weight.grad is not None:
                weight.grad.add_(weight.detach() - start, alpha=self.mu)
            self.start[name] = start


def _trained(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
