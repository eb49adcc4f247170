import inspect
import threading
import time
from itertools import islice

import numpy as np
import pytest
import torch
from exact_search import ExactSearch
from transformers import Trainer, TrainerCallback

from ragtune.errors import TrainingError
from ragtune.training.checkpointing.resumable import ResumableTrainer
from ragtune.training.trainer import RagTrainer

QUIET = {"report_to": "none", "n_docs": 3, "temperature": 0.05, "learning_rate": 3e-3, "logging_steps": 1}
UNEVALUATED = QUIET | {"eval_strategy": "no", "save_strategy": "no"}


def losses(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def weights(module):
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()]).clone()


def test_both_parts_learn_and_the_passage_encoder_does_not(make_trainer):
    trainer = make_trainer(max_steps=12, **UNEVALUATED)
    parts = [trainer.rag.question_encoder, trainer.rag.generator, trainer.rag.passage_encoder]
    before = [weights(part) for part in parts]
    trainer.train()
    changed = [not torch.equal(old, weights(part)) for old, part in zip(before, parts, strict=True)]
    assert changed == [True, True, False]
    assert losses(trainer)[-1] < losses(trainer)[0] - 2


def test_two_accumulated_batches_train_as_one_of_twice_the_size(make_trainer):
    whole = make_trainer(max_steps=5, per_device_train_batch_size=16, **UNEVALUATED)
    halves = make_trainer(max_steps=5, per_device_train_batch_size=8, gradient_accumulation_steps=2, **UNEVALUATED)
    for trainer in (whole, halves):
        trainer.train()
    assert losses(halves) == pytest.approx(losses(whole), rel=1e-5)
    norms = ([entry["grad_norm"] for entry in t.state.log_history if "grad_norm" in entry] for t in (whole, halves))
    assert next(norms) == pytest.approx(next(norms), rel=1e-4)


def test_a_step_searches_once_for_all_its_accumulated_batches(make_trainer):
    trainer = make_trainer(max_steps=4, per_device_train_batch_size=4, gradient_accumulation_steps=3, **UNEVALUATED)
    trainer.train()
    assert trainer.knowledge.calls == 4


def test_the_search_is_asked_with_the_live_question_encoder(make_trainer):
    trainer = make_trainer(max_steps=2, warmup_steps=0, overlap_search=False, **UNEVALUATED)
    _, second = islice(trainer.get_train_dataloader().batch_sampler, 2)
    texts = [trainer.train_dataset[row]["question"] for row in second]
    encode, search = trainer.rag.question_encoder.encode, trainer.knowledge.search
    asked, live = [], [encode(texts)]

    def watched(queries, k):
        asked.append(queries)
        live.append(encode(texts))
        return search(queries, k)

    trainer.knowledge.search = watched
    trainer.train()
    assert asked[1] == pytest.approx(live[2], abs=1e-5)
    assert not np.allclose(live[2], live[0], atol=1e-3)


class Watched(ExactSearch):
    """Remembers what it was asked, and by which thread."""

    def __init__(self, search):
        super().__init__(search.embeddings)
        self.asked, self.threads = [], []

    def search(self, queries, k):
        self.asked.append(queries)
        self.threads.append(threading.current_thread())
        return super().search(queries, k)


def watched(trainer):
    trainer.knowledge = trainer.steps.search = search = Watched(trainer.knowledge)
    if trainer.ahead is not None:
        trainer.ahead.search = search
    return search


def test_search_and_prompts_of_a_step_are_made_in_a_thread_with_the_encoder_of_one_step_before(make_trainer):
    parameters = {"max_steps": 5, "warmup_steps": 0, "per_device_train_batch_size": 16, **UNEVALUATED}  # 3 an epoch
    trainer = make_trainer(**parameters)
    search = watched(trainer)
    batches = trainer.get_train_dataloader()
    rows = []
    for epoch in range(2):
        batches.set_epoch(epoch)
        rows += list(batches.batch_sampler)
    encode, seen = trainer.rag.question_encoder.encode, []
    begin = trainer.get_batch_samples

    def watch_begin(*args):
        step = trainer.state.global_step
        questions = [[trainer.train_dataset[row]["question"] for row in part] for part in rows[step : step + 2]]
        seen.append([encode(texts) for texts in questions])
        return begin(*args)

    trainer.get_batch_samples = watch_begin
    build, builders = trainer.prompts.build, []
    trainer.prompts.build = lambda *given: builders.append(threading.current_thread()) or build(*given)
    trainer.train()
    main = threading.main_thread()
    assert [thread is main for thread in search.threads] == [True, False, False, True, False]
    assert [thread is main for thread in builders] == [True, False, False, True, False]  # prompts, too
    expected = [seen[0][0], seen[0][1], seen[1][1], seen[3][0], seen[3][1]]
    for asked, vectors in zip(search.asked, expected, strict=True):
        assert asked == pytest.approx(vectors, abs=1e-5)
    assert not np.allclose(seen[0][1], seen[1][0], atol=1e-3)


def test_an_overlapped_search_changes_neither_the_first_step_nor_how_often_is_searched(make_trainer):
    accumulated = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    one, other = (make_trainer(max_steps=8, overlap_search=on, **accumulated, **UNEVALUATED) for on in (True, False))
    for trainer in (one, other):
        trainer.train()
    assert one.knowledge.calls == other.knowledge.calls == 8
    assert losses(one)[0] == losses(other)[0]
    assert losses(one) == pytest.approx(losses(other), rel=0.2)
    assert losses(one)[1:] != losses(other)[1:]


def test_an_evaluation_waits_for_the_search_under_way(make_trainer):
    trainer = make_trainer(max_steps=4, eval_steps=1, **QUIET)
    at_once = threading.Lock()
    search = trainer.knowledge.search

    def alone(queries, k):
        assert at_once.acquire(blocking=False), "two searches at a time"
        time.sleep(0.05)
        at_once.release()
        return search(queries, k)

    trainer.knowledge.search = alone
    trainer.train()
    assert trainer.knowledge.calls == 4 + 5


def test_a_resumed_run_does_not_ask_again_what_had_been_found(make_trainer):
    parameters = {"max_steps": 6, "eval_steps": 2, "save_steps": 2, "per_device_train_batch_size": 8, **QUIET}
    whole = make_trainer(folder="whole", **parameters)
    search = watched(whole)
    whole.fit()
    stopped = make_trainer(**parameters)
    stopped.add_callback(StopAt(4))
    with pytest.raises(TrainingError, match="the training was stopped after step 4 of 6"):
        stopped.fit()
    resumed = make_trainer(**parameters)
    search_again = watched(resumed)
    resumed.fit()
    first, second = ([queries for queries in each.asked if len(queries) == 8] for each in (search, search_again))
    assert len(first) == 6  # validation asks with 12
    assert len(second) == 1  # step 5's passages stand in the checkpoint
    assert (first[-1] == second[0]).all()
    assert losses(resumed) == losses(whole)


class StopAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == self.step


def test_the_log_tells_how_the_retrieval_does(make_trainer):
    trainer = make_trainer(max_steps=1, **UNEVALUATED)
    trainer.train()
    entry = trainer.state.log_history[0]
    assert 0 < entry["entropy"] < np.log(3)
    assert 3 <= entry["distinct_passages"] <= 24
    assert 0 <= entry["train_recall@3"] <= 1
    assert 0 < entry["search_fraction"] < 1
    assert entry["samples_per_second"] > 0


@pytest.mark.parametrize("method", ["rag", "rag-token"])
def test_every_method_learns(make_trainer, method):
    trainer = make_trainer(max_steps=6, method=method, **UNEVALUATED)
    trainer.train()
    assert losses(trainer)[-1] < losses(trainer)[0]


def test_closed_book_learns_from_bare_questions(make_trainer):
    trainer = make_trainer(closed_book=True, max_steps=6, **UNEVALUATED)
    before = weights(trainer.rag.question_encoder)
    trainer.train()
    assert losses(trainer)[-1] < losses(trainer)[0]
    assert torch.equal(before, weights(trainer.rag.question_encoder))


def test_checkpointed_activations_give_the_same_losses(make_trainer):
    plain = make_trainer(max_steps=3, **UNEVALUATED)
    saving = make_trainer(max_steps=3, activation_checkpointing=True, **UNEVALUATED)
    for trainer in (plain, saving):
        trainer.train()
    assert losses(saving) == pytest.approx(losses(plain), rel=1e-5)


@pytest.mark.slow
def test_a_compiled_model_has_the_same_losses(make_trainer):
    plain = make_trainer(max_steps=2, **UNEVALUATED)
    compiled = make_trainer(max_steps=2, torch_compile=True, torch_compile_backend="aot_eager", **UNEVALUATED)
    for trainer in (plain, compiled):
        trainer.train()
    assert losses(compiled) == pytest.approx(losses(plain), rel=1e-4)


def test_a_frozen_question_encoder_stays_as_it_is(make_trainer):
    trainer = make_trainer(max_steps=3, freeze_question_encoder=True, **UNEVALUATED)
    before = weights(trainer.rag.question_encoder)
    trainer.train()
    assert torch.equal(before, weights(trainer.rag.question_encoder))


@pytest.mark.parametrize("part", ["question_encoder", "generator"])
def test_a_frozen_part_computes_without_dropout(make_trainer, part):
    trainer = make_trainer(max_steps=1, **{f"freeze_{part}": True}, **UNEVALUATED)
    modes = []
    for name in ("question_encoder", "generator"):
        module = getattr(trainer.rag, name).backbone
        module.register_forward_pre_hook(
            lambda module, inputs, name=name: modes.append((name, module.training, torch.is_grad_enabled()))
        )
    trainer.train()
    in_the_step = {(name, training) for name, training, with_gradient in modes if with_gradient}
    other = {"question_encoder": "generator", "generator": "question_encoder"}[part]
    assert in_the_step == {(part, False), (other, True)}


def test_closed_book_with_a_frozen_generator_has_nothing_to_train(make_trainer):
    with pytest.raises(TrainingError, match="nothing is left to train: lift freeze_generator"):
        make_trainer(closed_book=True, max_steps=3, freeze_generator=True, **UNEVALUATED)


def test_a_loss_that_is_no_number_stops_the_run(make_trainer):
    trainer = make_trainer(max_steps=3, **UNEVALUATED)
    with torch.no_grad():
        trainer.rag.generator.backbone.shared.weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"step 1: the loss is nan; lower learning_rate \(now 0.003\)"):
        trainer.train()


def test_a_gradient_that_is_no_number_stops_the_run_before_it_reaches_the_weights(make_trainer):
    trainer = make_trainer(max_steps=3, **UNEVALUATED)
    trainer.rag.generator.backbone.shared.weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(TrainingError, match="step 1: the gradient's norm is"):
        trainer.train()
    assert weights(trainer.rag.generator).isfinite().all()


def test_an_evaluation_counts_exact_matches_loss_and_recall(make_trainer):
    figures = make_trainer(max_steps=3, **QUIET).evaluate()
    assert figures["eval_em"] == 0
    assert figures["eval_loss"] > 0
    assert 0 <= figures["eval_recall@1"] <= figures["eval_recall@3"] <= figures["eval_recall@5"] <= 1


def test_an_evaluation_takes_no_more_questions_than_it_may(make_trainer):
    trainer = make_trainer(max_steps=3, max_eval_questions=5, per_device_eval_batch_size=2, **QUIET)
    trainer.evaluate()
    assert trainer.knowledge.calls == 3


def test_callbacks_and_optimizers_reach_the_training(make_trainer):
    trainer = make_trainer(max_steps=2, **UNEVALUATED)
    optimizer = torch.optim.SGD(trainer.model.parameters(), lr=0.5)
    constant = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    again = make_trainer(
        max_steps=2, model=trainer.rag, callbacks=[StopAt(1)], optimizers=(optimizer, constant), **UNEVALUATED
    )
    again.train()
    assert again.state.global_step == 1
    assert again.state.log_history[0]["learning_rate"] == 0.5


def test_the_private_methods_of_trainers_that_are_overridden_are_these():
    """They may change with any release of transformers: pyproject.toml bounds it, and a new one is looked at here."""
    ours = {name for kind in (RagTrainer, ResumableTrainer) for name in vars(kind) if name.startswith("_")}
    overridden = {name for name in ours - {"__init__", "__doc__", "__module__"} if hasattr(Trainer, name)}
    assert {name for name in overridden if not name.startswith("__")} == {
        "_defer_fsdp_gradient_reduction",
        "_determine_best_metric",
        "_get_grad_norm",
        "_init_training_state",
        "_load_from_checkpoint",
        "_load_optimizer_and_scheduler",
        "_prepare_inputs",
        "_save_checkpoint",
    }
    for name in (
        "_get_grad_norm",
        "_determine_best_metric",
        "_load_from_checkpoint",
        "_save_checkpoint",
        "_load_optimizer_and_scheduler",
    ):
        taken = list(inspect.signature(getattr(RagTrainer, name)).parameters)
        assert taken == list(inspect.signature(getattr(Trainer, name)).parameters), name
