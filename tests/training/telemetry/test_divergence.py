from types import SimpleNamespace

import pytest
import torch

from ragtune.errors import TrainingError
from ragtune.training.telemetry.divergence import Divergence

NAN, INFINITE = float("nan"), float("inf")


@pytest.fixture
def divergence():
    return Divergence(SimpleNamespace(learning_rate=3e-5))


def test_finite_steps_go_on(divergence):
    for step in (1, 2):
        divergence.add(torch.tensor(2.0, requires_grad=True))
        divergence.check_step(step, 1.5)


@pytest.mark.parametrize(
    ("losses", "norm", "what"),
    [([1.0, NAN], 1.0, "the loss is nan"), ([1.0], INFINITE, "the gradient's norm is inf"), ([INFINITE], None, "inf")],
)
def test_a_loss_or_gradient_that_is_no_number_ends_the_step_with_the_way_out(divergence, losses, norm, what):
    for loss in losses:
        divergence.add(torch.tensor(loss))
    with pytest.raises(TrainingError, match=rf"^step 7: .*{what}; lower learning_rate \(now 3e-05\)"):
        divergence.check_step(7, norm)


def test_a_step_is_judged_by_its_own_losses(divergence):
    divergence.add(torch.tensor(NAN))
    with pytest.raises(TrainingError):
        divergence.check_step(1, None)
    divergence.add(torch.tensor(1.0))
    divergence.check_step(2, torch.tensor(1.0))


def test_the_gradient_is_not_looked_at_where_it_is_scaled(divergence):
    divergence.add(torch.tensor(1.0))
    divergence.check_step(1, None)
