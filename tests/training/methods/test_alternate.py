"""alternate: whose turn it is follows from the step, and the other's parts rest, weights and moments."""

from itertools import pairwise

import pytest
import torch

from ragtune.errors import TrainingError
from ragtune.training.methods import METHODS
from ragtune.training.methods.alternate import Alternate, AlternateOptions
from ragtune.training.rules import check_training

QUIET = {"report_to": "none", "n_docs": 3, "temperature": 0.1, "logging_steps": 1, "weight_decay": 0.1}
SETTINGS = QUIET | {"learning_rate": 1e-3, "warmup_steps": 0, "per_device_train_batch_size": 8, "eval_strategy": "no"}
PARTS = ("question_encoder", "generator")


class Watched(Alternate):
    """Keeps, for each step, the parts that learn, and weights and moments as the step finds them."""

    def loss(self, parts, inputs, step):
        optimizer, seen = self.trainer.optimizer, {}
        for name in PARTS:
            part = getattr(parts, name)
            state = getattr(optimizer, "optimizer", optimizer).state
            moments = [state[p]["exp_avg"].clone() for p in part.parameters() if p in state]
            seen[name] = (part.training, [p.detach().clone() for p in part.parameters()], moments)
        self.seen.append((step, seen))
        return super().loss(parts, inputs, step)

    def callbacks(self, trainer):
        self.trainer, self.seen = trainer, []
        return super().callbacks(trainer)


def same(one, other):
    return len(one) == len(other) and all(a.equal(b) for a, b in zip(one, other, strict=True))


def turns(every, first="ralt", steps=6):
    method = Alternate(AlternateOptions(alternate_every=every, first=first))
    return [method.turn(step) for step in range(steps)]


def test_turns_follow_from_the_step():
    assert turns(2) == ["ralt", "ralt", "lsr", "lsr", "ralt", "ralt"]
    assert turns(1, first="lsr", steps=3) == ["lsr", "ralt", "lsr"]
    method = Alternate(AlternateOptions(alternate_every=1, train_passage_encoder=True))
    assert method.trains_at(0) == {"generator"}
    assert method.trains_at(1) == {"question_encoder", "passage_encoder"}
    assert method.trains == method.trains_at(0) | method.trains_at(1)


def test_a_part_rests_in_evaluation_mode_in_the_others_turn(make_trainer, monkeypatch):
    monkeypatch.setitem(METHODS, "alternate", Watched)
    options = {"alternate_every": 2, "n_candidates": 6, "examples": "supported"}
    trainer = make_trainer(method="alternate", method_options=options, max_steps=7, save_strategy="no", **SETTINGS)
    trainer.train()
    seen = trainer.method.seen
    assert [step for step, _ in seen] == list(range(7))
    for (step, now), (_, after) in pairwise(seen):
        learns, rests = PARTS if trainer.method.turn(step) == "lsr" else PARTS[::-1]
        assert now[learns][0] and not now[rests][0], step
        assert not same(now[learns][1], after[learns][1]), step
        assert same(now[rests][1], after[rests][1]), step
        assert same(now[rests][2], after[rests][2]), step
        assert not same(now[learns][2], after[learns][2]), step
    names = [{n for n in ("ralt_loss", "lsr_loss") if n in e} for e in trainer.state.log_history if "loss" in e]
    assert names == [{f"{trainer.method.turn(step)}_loss"} for step in range(7)]


def test_a_turn_of_zero_steps_is_an_epoch(make_trainer):
    trainer = make_trainer(method="alternate", max_steps=3, **SETTINGS)
    assert trainer.method.steps_per_turn == 6  # 48 questions
    accumulated = SETTINGS | {"gradient_accumulation_steps": 2}
    assert make_trainer(method="alternate", max_steps=3, **accumulated).method.steps_per_turn == 3


def test_a_resumed_run_goes_on_in_the_right_turn_and_ends_with_the_same_weights(make_trainer):
    settings = {"method": "alternate", "method_options": {"alternate_every": 3}, "save_steps": 4, **SETTINGS}
    whole, half = (make_trainer(folder=name, max_steps=8, **settings) for name in ("whole", "half"))
    whole.train()
    stop = []

    def stopping(*args, **kwargs):
        stop.append(None)
        if len(stop) == 6:
            raise KeyboardInterrupt
        return step(*args, **kwargs)

    step, half.training_step = half.training_step, stopping
    with pytest.raises(KeyboardInterrupt):
        half.train()
    again = make_trainer(folder="half", max_steps=8, **settings)
    again.train(resume_from_checkpoint=f"{again.args.output_dir}/checkpoint-4")
    for (name, one), other in zip(whole.rag.state_dict().items(), again.rag.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, msg=name)
    logged = [entry for entry in again.state.log_history if "loss" in entry]
    assert ["lsr_loss" in entry for entry in logged] == [step // 3 % 2 == 1 for step in range(8)]


def test_of_more_candidates_the_generator_reads_those_that_the_search_ranks_first(make_trainer):
    losses = []
    for method, options in (("ralt", {}), ("alternate", {"alternate_every": 1, "n_candidates": 6})):
        trainer = make_trainer(method=method, method_options=options, max_steps=1, folder=method, **SETTINGS)
        trainer.train()
        losses.append(trainer.state.log_history[0]["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_an_evaluation_adds_both_losses_whoevers_turn_it_is(make_trainer):
    losses = []
    supported = {"examples": "supported"}
    for method, options in (("lsr", {}), ("ralt", supported), ("alternate", {"alternate_every": 1, **supported})):
        trainer = make_trainer(method=method, method_options=options, **QUIET)
        losses.append(trainer.evaluate()["eval_loss"])
    trainer.model.step = 1
    assert [losses[2], trainer.evaluate()["eval_loss"]] == pytest.approx([losses[0] + losses[1]] * 2, rel=1e-5)


def test_a_frozen_part_is_refused_as_its_turns_would_train_nothing():
    with pytest.raises(TrainingError, match="freeze_generator=True: method=alternate trains the parts in turn"):
        check_training({"method": "alternate", "freeze_generator": True})
