"""An optimiser step: its rates, its clipping and its precision."""

import traceback

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ragtune.models import rag
from ragtune.training.arguments import RagTrainingArguments
from ragtune.training.methods.rag import Rag

PARAMETERS = {"report_to": "none", "n_docs": 3, "temperature": 0.05, "logging_steps": 1, "warmup_steps": 0}
PARAMETERS |= {"eval_strategy": "no", "save_strategy": "no"}


def weights(module):
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()]).clone()


def moved(trainer, part):
    """Root mean square of what a training does to a part's weights."""
    before = weights(part)
    trainer.train()
    return (weights(part) - before).square().mean().sqrt().item()


def test_the_question_encoder_learns_at_its_own_rate(make_trainer):
    rates = {"learning_rate": 1e-3, "question_encoder_learning_rate": 1e-6}
    trainer = make_trainer(max_steps=1, weight_decay=0.0, **rates, **PARAMETERS)
    generator, encoder = trainer.rag.generator, trainer.rag.question_encoder
    before = weights(generator)
    assert moved(trainer, encoder) < 2e-6
    assert (weights(generator) - before).abs().max() > 1e-4


def test_a_gradient_is_clipped_before_it_reaches_the_weights(make_trainer):
    model = make_trainer(max_steps=1, **PARAMETERS).rag
    trained = [*model.question_encoder.parameters(), *model.generator.parameters()]
    optimizer = torch.optim.SGD(trained, lr=1.0)
    constant = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    trainer = make_trainer(max_steps=1, max_grad_norm=0.01, model=model, optimizers=(optimizer, constant), **PARAMETERS)
    before = weights(trainer.model)
    trainer.train()
    assert trainer.state.log_history[0]["grad_norm"] > 0.1
    assert (weights(trainer.model) - before).norm().item() == pytest.approx(0.01, rel=1e-3)


def watch(trainer):
    """The types that the question encoder and the generator compute in, with gradient and without."""
    seen = set()
    for part in (trainer.rag.question_encoder, trainer.rag.generator):
        linear = next(module for module in part.modules() if isinstance(module, torch.nn.Linear))
        linear.register_forward_hook(lambda module, inputs, output: seen.add((torch.is_grad_enabled(), output.dtype)))
    return seen


@pytest.mark.parametrize(("precision", "computed"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_bf16_computes_in_bf16_keeps_its_weights_in_fp32_and_learns(make_trainer, precision, computed):
    trainer = make_trainer(max_steps=12, learning_rate=3e-3, precision=precision, **PARAMETERS)
    asked = []
    search = trainer.knowledge.search
    trainer.knowledge.search = lambda queries, k: asked.append(queries.dtype) or search(queries, k)
    seen = watch(trainer)
    trainer.train()
    assert seen == {(True, computed), (False, computed)}  # a step, and its search
    assert set(asked) == {torch.zeros(0).numpy().dtype}
    assert {parameter.dtype for parameter in trainer.model.parameters()} == {torch.float32}
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0] - 2
    seen.clear()
    trainer.evaluate()
    assert seen == {(False, computed)}


def test_a_gpu_that_has_bf16_computes_in_it_unless_told_otherwise(monkeypatch):
    monkeypatch.setattr("ragtune.training.arguments._gpu_has_bf16", lambda use_cpu: True)
    told = {
        precision: RagTrainingArguments(output_dir="run", precision=precision).bf16 for precision in ("auto", "fp32")
    }
    assert told == {"auto": True, "fp32": False}


class Waits(TorchDispatchMode):
    """Remembers where the package takes a tensor's value as a Python number, for which it would wait for a GPU."""

    def __init__(self):
        super().__init__()
        self.places = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__ in ("_local_scalar_dense", "nonzero"):
            outside = [frame.filename for frame in traceback.extract_stack() if "/torch/" not in frame.filename]
            self.places += [place for place in outside[-2:-1] if "/ragtune/" in place]  # the last one is this
        return function(*args, **kwargs or {})


def test_a_batch_waits_for_no_value_on_the_device_and_a_step_for_those_of_all_its_batches(make_trainer, monkeypatch):
    trainer = make_trainer(max_steps=1, gradient_accumulation_steps=2, **PARAMETERS)
    monkeypatch.setattr(rag, "check_rows", lambda *given: None)  # which is for the CPU alone there
    step, waits = trainer.training_step, []

    def watched(*args, **options):
        with Waits() as mode:
            loss = step(*args, **options)
        waits.append(mode.places)
        return loss

    trainer.training_step = watched
    checks = []
    check = trainer.divergence.check
    trainer.divergence.check = lambda step, name, value: checks.append(name) or check(step, name, value)
    trainer.train()
    assert waits == [[], []]
    assert checks == ["the loss", "the loss", "the gradient's norm"]


def test_ddp_looks_for_weights_without_gradient_only_where_a_method_may_leave_some(make_trainer, monkeypatch):
    def looks(**parameters):
        return make_trainer(max_steps=1, **PARAMETERS, **parameters).accelerator.ddp_handler.find_unused_parameters

    assert not looks()
    assert looks(ddp_find_unused_parameters=True)
    monkeypatch.setattr(Rag, "trains_at", lambda self, step: self.trains, raising=False)
    assert looks()
