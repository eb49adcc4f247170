"""The best step's weights, and the checkpoints that a run goes on from."""

import json
import os
import resource
import shutil
import signal
from contextlib import contextmanager

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, TrainerCallback

from ragtune.errors import TrainingError
from ragtune.models.generators.causal import CausalGenerator
from ragtune.models.rag import RagConfig, RagModel
from ragtune.training.checkpointing import checkpoints

QUIET = {"report_to": "none", "n_docs": 3, "temperature": 0.05, "learning_rate": 3e-3, "logging_steps": 1}


class TermAt(TrainerCallback):
    """Sends SIGTERM while a step trains."""

    def __init__(self, step):
        self.step = step

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step + 1 == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


def term_in_validation(trainer, step):
    """Send SIGTERM at the second search of a step's validation, after which none may come."""
    search, before = trainer.knowledge.search, []

    def struck(queries, k):
        if not trainer.model.training and trainer.state.global_step == step:
            assert len(before) < 2
            before.append(k)
            if len(before) == 2:
                os.kill(os.getpid(), signal.SIGTERM)
        return search(queries, k)

    trainer.knowledge.search = struck
    return trainer


class StopAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == self.step


def weights(module):
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()]).clone()


def test_the_best_step_has_the_highest_em_and_of_equal_ones_the_lowest_loss(make_trainer, tmp_path):
    trainer = make_trainer(max_steps=3, **QUIET)
    kept = []
    for step, em, loss in ((0, 0.0, 3.1), (1, 0.0, 3.0), (2, 0.0, 2.0), (3, 0.5, 4.0), (4, 0.5, 4.0), (5, 0.4, 1.0)):
        trainer.state.global_step = step
        trainer.state.log_history.append({"step": step, "eval_em": em, "eval_loss": loss})
        trainer._keep_best()
        kept.append([path.name for path in (tmp_path / "run").glob("best-*")])
    assert kept == [["best-0"], ["best-1"], ["best-2"], ["best-3"], ["best-3"], ["best-3"]]
    assert trainer.state.best_global_step == 3


def test_the_best_steps_weights_are_taken_in_the_end(make_trainer, tmp_path):
    trainer = make_trainer(max_steps=6, eval_steps=2, **QUIET | {"learning_rate": 0.3})
    trainer.fit()
    best = trainer.state.best_global_step
    evaluations = {e["step"]: e["eval_loss"] for e in trainer.state.log_history if "eval_loss" in e}
    trainer.args.eval_strategy = "steps"
    assert trainer.evaluate()["eval_loss"] == pytest.approx(evaluations[best], rel=1e-4)


WORSE = {"learning_rate": 1.0, "warmup_steps": 0, "metric_for_best_model": "recall@1"}
BETTER = {"metric_for_best_model": "loss", "warmup_steps": 0}


def test_the_base_model_stays_where_every_step_makes_it_worse(make_trainer):
    trainer = make_trainer(max_steps=2, eval_steps=1, **QUIET | WORSE)
    before = weights(trainer.rag.generator)
    trainer.fit()
    recall = {e["step"]: e["eval_recall@1"] for e in trainer.state.log_history if "eval_loss" in e}
    assert recall[0] > max(recall[1], recall[2])
    assert trainer.state.best_global_step == 0
    assert torch.equal(weights(trainer.rag.generator), before)


@pytest.mark.parametrize("metric", [WORSE, BETTER], ids=["best before the kill", "best after it"])
def test_a_killed_run_ends_with_the_best_step_of_one_that_was_not(make_trainer, tmp_path, monkeypatch, metric):
    parameters = {"max_steps": 5, "eval_steps": 1, "save_steps": 2, **QUIET, **metric}
    whole, killed, resumed = (make_trainer(folder=folder, **parameters) for folder in ("whole", "run", "run"))
    whole.fit()
    step = killed.training_step

    def die(*args, **kwargs):
        if killed.state.global_step == 3:  # its weights may stand there as the best, but no checkpoint knows them
            raise KeyboardInterrupt
        return step(*args, **kwargs)

    monkeypatch.setattr(killed, "training_step", die)
    with pytest.raises(KeyboardInterrupt):
        killed.fit()
    assert checkpoints.last_step(tmp_path / "run") == 2
    resumed.fit()
    assert resumed.state.best_global_step == whole.state.best_global_step
    assert (resumed.state.best_global_step == 0) == (metric is WORSE)
    assert torch.equal(weights(resumed.rag.generator), weights(whole.rag.generator))


def test_a_run_ended_by_sigterm_goes_on_from_the_one_checkpoint_that_is_kept(make_trainer, tmp_path):
    parameters = {"max_steps": 5, "eval_steps": 1, "save_steps": 2, "save_total_limit": 1, **QUIET, **WORSE}
    whole, ended, resumed = (
        make_trainer(folder=folder, callbacks=callbacks, **parameters)
        for folder, callbacks in (("whole", []), ("run", [TermAt(3)]), ("run", []))
    )
    whole.fit()
    with pytest.raises(TrainingError, match="was ended by SIGTERM after step 3 of 5; the checkpoint of step 3 is"):
        ended.fit()
    assert {path.name for path in (tmp_path / "run").glob("*-*")} == {"checkpoint-3", "best-0"}
    resumed.fit()
    assert validations(resumed) == validations(whole)
    assert torch.equal(weights(resumed.rag.generator), weights(whole.rag.generator))


def test_a_run_ended_at_or_inside_an_epoch_has_the_validations_of_one_that_was_not(make_trainer):
    two_steps_each = {"eval_strategy": "epoch", "save_strategy": "epoch", "per_device_train_batch_size": 24}
    parameters = {"max_steps": 3, **QUIET, **two_steps_each}
    whole = make_trainer(folder="whole", **parameters)
    whole.fit()
    assert [step for step, _ in validations(whole)] == [0, 2, 3]
    for step in (1, 2):
        with pytest.raises(TrainingError, match=f"after step {step} of 3; the checkpoint of step {step} is"):
            make_trainer(folder=f"run{step}", callbacks=[TermAt(step)], **parameters).fit()
        resumed = make_trainer(folder=f"run{step}", **parameters)
        resumed.fit()
        assert validations(resumed) == validations(whole)


VALIDATED = {"max_steps": 3, "eval_steps": 2, "per_device_eval_batch_size": 4, **QUIET}


def test_sigterm_in_a_step_that_is_to_be_validated_leaves_its_checkpoint_first(make_trainer):
    whole, ended = (make_trainer(folder=folder, **VALIDATED) for folder in ("whole", "run"))
    whole.fit()
    ended.add_callback(TermAt(2))
    with pytest.raises(TrainingError, match="ended by SIGTERM after step 2 of 3; the checkpoint of step 2 is"):
        ended.fit()
    assert validations(ended) == validations(whole)[:1]
    with pytest.raises(TrainingError, match="ended by SIGTERM after step 2 of 3; the checkpoint of step 2 is"):
        term_in_validation(make_trainer(**VALIDATED), 2).fit()  # in the one that it makes up for
    resumed = make_trainer(**VALIDATED)
    resumed.fit()
    assert validations(resumed) == validations(whole)
    assert torch.equal(weights(resumed.rag.generator), weights(whole.rag.generator))


def test_sigterm_in_the_last_validation_ends_it_and_the_next_start_makes_up_for_it(make_trainer):
    whole, ended, resumed = (make_trainer(folder=folder, **VALIDATED) for folder in ("whole", "run", "run"))
    whole.fit()
    with pytest.raises(TrainingError, match="ended by SIGTERM after step 3 of 3; the checkpoint of step 3 is"):
        term_in_validation(ended, 3).fit()
    resumed.fit()
    assert validations(resumed) == validations(whole)
    assert resumed.state.best_global_step == whole.state.best_global_step
    assert torch.equal(weights(resumed.rag.generator), weights(whole.rag.generator))


def test_sigterm_in_the_base_models_validation_ends_it_before_the_first_step(make_trainer):
    with pytest.raises(TrainingError, match="ended by SIGTERM after step 0 of 3; it wrote no checkpoint"):
        term_in_validation(make_trainer(**VALIDATED), 0).fit()


def test_sigterm_in_a_last_step_without_a_validation_is_heard(make_trainer):
    parameters = {"max_steps": 2, "eval_strategy": "no", **QUIET}
    with pytest.raises(TrainingError, match="ended by SIGTERM after step 2 of 2; the checkpoint of step 2 is"):
        make_trainer(callbacks=[TermAt(2)], **parameters).fit()
    make_trainer(**parameters).fit()


def validations(trainer):
    return [(entry["step"], entry["eval_loss"]) for entry in trainer.state.log_history if "eval_loss" in entry]


def test_a_run_killed_while_it_removes_an_old_checkpoint_goes_on(make_trainer, tmp_path, monkeypatch):
    parameters = {"max_steps": 4, "eval_steps": 4, "save_steps": 1, "save_total_limit": 1, **QUIET}
    remove = shutil.rmtree

    def killed(path, **options):
        if (state := tmp_path / "run" / path / checkpoints.STATE).exists():
            state.unlink()
            raise KeyboardInterrupt
        remove(path, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", killed)
        make_trainer(**parameters).fit()
    make_trainer(**parameters).fit()
    assert {path.name for path in (tmp_path / "run").glob("[.c]*")} == {"checkpoint-4"}


def test_checkpoints_are_written_at_save_steps_and_evaluations_keep_weights_alone(make_trainer, tmp_path):
    written, publish = [], checkpoints.publish

    def published(partial, whole):
        written.append((whole.name, {path.name for path in partial.iterdir()}))
        publish(partial, whole)

    trainer = make_trainer(max_steps=5, eval_steps=1, save_steps=3, **QUIET)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "publish", published)
        trainer.fit()
    assert [name for name, _ in written if name.startswith("checkpoint")] == ["checkpoint-3", "checkpoint-5"]
    bests = [files for name, files in written if name.startswith("best")]
    assert len(bests) > 2 and all(files == {checkpoints.WEIGHTS} for files in bests)
    assert len(list((tmp_path / "run").glob("best-*"))) <= 2


@pytest.mark.parametrize("evaluated", [{"eval_steps": 3}, {"eval_strategy": "no"}])
def test_without_save_steps_the_clock_says_where_checkpoints_are_written(make_trainer, tmp_path, evaluated):
    parameters = QUIET | {"max_steps": 3} | evaluated
    make_trainer(**parameters, folder="soon").fit()
    assert {path.name for path in (tmp_path / "soon").glob("checkpoint*")} == {"checkpoint-3"}  # the last step's
    often = make_trainer(**parameters, folder="often")
    often.cadence.seconds = 0
    often.fit()
    assert {path.name for path in (tmp_path / "often").glob("checkpoint*")} == {"checkpoint-2", "checkpoint-3"}


def test_a_checkpoint_whose_best_step_is_gone_is_told_before_training(make_trainer, tmp_path):
    parameters = {"max_steps": 4, "eval_steps": 2, "save_steps": 2, **QUIET}
    stopped = make_trainer(callbacks=[StopAt(2)], **parameters)
    with pytest.raises(TrainingError, match=r"was stopped after step 2 of 4; the checkpoint of step 2 is in"):
        stopped.fit()
    (best,) = (tmp_path / "run").glob("best-*")
    shutil.rmtree(best)
    again = make_trainer(**parameters)
    with pytest.raises(TrainingError, match=r"checkpoint-2: its best step was \d, whose weights are gone; delete it"):
        again.fit()
    assert again.knowledge.calls == 0


def test_a_run_ended_before_its_first_checkpoint_says_so(make_trainer):
    with pytest.raises(TrainingError, match=r"was stopped after step 1 of 2; it wrote no checkpoint, and starts over"):
        make_trainer(max_steps=2, save_strategy="no", callbacks=[StopAt(1)], **QUIET).fit()


def test_a_resumed_run_has_the_cadence_that_it_is_given(make_trainer, tmp_path):
    parameters = {"max_steps": 6, "eval_steps": 2, **QUIET}
    with pytest.raises(TrainingError):
        make_trainer(callbacks=[StopAt(2)], save_steps=2, **parameters).fit()
    make_trainer(save_steps=5, save_total_limit=9, **parameters).fit()
    names = {path.name for path in (tmp_path / "run").glob("checkpoint*")}
    assert names == {"checkpoint-2", "checkpoint-5", "checkpoint-6"}


def test_the_last_step_is_evaluated_whatever_eval_steps_is(make_trainer):
    trainer = make_trainer(max_steps=5, eval_steps=2, **QUIET)
    trainer.fit()
    assert [e["step"] for e in trainer.state.log_history if "eval_em" in e] == [0, 2, 4, 5]


def test_a_finished_training_is_not_gone_on_with(make_trainer, tmp_path):
    first = make_trainer(max_steps=4, eval_steps=2, **QUIET)
    first.fit()
    again = make_trainer(max_steps=4, eval_steps=2, **QUIET)
    (tmp_path / "run" / "best-1").mkdir()  # of a step after which a killed run wrote no checkpoint
    again.fit()
    assert not (tmp_path / "run" / "best-1").exists()
    assert again.knowledge.calls == 0
    assert torch.equal(weights(first.rag.generator), weights(again.rag.generator))
    assert again.state.log_history == json.loads(json.dumps(first.state.log_history))[: len(again.state.log_history)]


@pytest.mark.parametrize(
    ("what", "evaluated"), [("best-0", {"eval_steps": 2}), ("checkpoint-2", {"eval_strategy": "no"})]
)
def test_what_cannot_be_written_stops_the_run_and_leaves_no_half_one(make_trainer, tmp_path, what, evaluated):
    trainer = make_trainer(max_steps=4, save_steps=2, **QUIET | evaluated)
    with files_no_larger_than(30_000), pytest.raises(TrainingError, match=f"{what} could not be written"):
        trainer.fit()
    assert list((tmp_path / "run").iterdir()) == []


@contextmanager
def files_no_larger_than(size):
    """The effect of a full disk on a large file, without one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("method", ["rag", "rag-end2end"])
def test_a_decoder_only_generators_run_resumes_exactly(still_world, make_trainer, tmp_path, method):
    parameters = {"method": method, "max_steps": 4, "eval_steps": 4, "save_steps": 2, "max_eval_questions": 4, **QUIET}
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}

    def trainer_in(folder, callbacks=()):
        model = RagModel.from_parts(*still_world.parts.values(), RagConfig(n_docs=3, temperature=0.05))
        torch.manual_seed(0)
        tokenizer = model.generator.tokenizer
        ends = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": None, "pad_token_id": None}
        backbone = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), initializer_range=0.3, **sizes, **ends))
        model.generator = CausalGenerator(backbone.eval(), tokenizer)
        return make_trainer(folder=folder, model=model, callbacks=[*callbacks], **parameters)

    whole = trainer_in("whole")
    before = weights(whole.rag.generator)
    whole.fit()
    with pytest.raises(TrainingError, match="was stopped after step 3 of 4"):
        trainer_in("run", [StopAt(3)]).fit()
    resumed = trainer_in("run")
    resumed.fit()
    assert resumed.state.global_step == 4
    assert not torch.equal(weights(whole.rag.generator), before)
    for part in ("question_encoder", "passage_encoder", "generator"):
        assert torch.equal(weights(getattr(resumed.rag, part)), weights(getattr(whole.rag, part))), part
