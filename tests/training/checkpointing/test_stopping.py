import os
import signal

import pytest
from transformers import TrainerControl, TrainerState

from ragtune.errors import ParameterError, TrainingError
from ragtune.models.checkpoint import load_model
from ragtune.training.arguments import RagTrainingArguments, RunFiles
from ragtune.training.checkpointing.stopping import Termination
from ragtune.training.run import run
from ragtune.training.trainer import RagTrainer

PARAMETERS = {"n_docs": 3, "temperature": 0.05, "learning_rate": 3e-3, "logging_steps": 1, "report_to": "none"}


@pytest.fixture
def files(world, knowledge_base_folder, tmp_path):
    folders = {"output_folder": str(tmp_path / "model"), "work_folder": str(tmp_path / "work"), **world.parts}
    return RunFiles(dataset_folder=world.pairs, knowledge_base_folder=knowledge_base_folder, **folders)


def test_sigterm_leaves_a_checkpoint_and_no_model_and_the_same_run_goes_on(files, tmp_path, monkeypatch, capfd):
    step = RagTrainer.training_step

    def struck(self, *args, **kwargs):
        if self.state.global_step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *args, **kwargs)

    def args():
        return RagTrainingArguments(max_steps=6, eval_steps=5, **PARAMETERS)

    with monkeypatch.context() as patched:
        patched.setattr(RagTrainer, "training_step", struck)
        with pytest.raises(TrainingError, match=r"was ended by SIGTERM after step 3 of 6; .* resumes from there"):
            run(files, args())
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert not (tmp_path / "model").exists()
    assert [path.name for path in tmp_path.glob("work/*/rag/checkpoint-*")] == ["checkpoint-3"]
    capfd.readouterr()
    assert run(files, args())["steps"] == 6
    assert "resuming from step 3" in capfd.readouterr().err
    load_model(tmp_path / "model")


def test_early_stopping_ends_a_training_that_is_a_result(make_trainer):
    parameters = PARAMETERS | {"learning_rate": 1.0, "max_steps": 12, "eval_steps": 1, "early_stopping_patience": 1}
    trainer = make_trainer(**parameters)
    trainer.fit()
    steps = [entry["step"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert steps[-1] == trainer.state.best_global_step + 1 < 12
    again = make_trainer(**parameters)
    again.fit()  # finished, though a checkpoint of fewer steps than max_steps is what it finds
    assert again.knowledge.calls == 0


def test_a_sigterm_that_comes_while_the_processes_ask_each_other_is_heard_at_the_next_step():
    def asked(holds):
        if signal.getsignal(signal.SIGTERM) != before:
            os.kill(os.getpid(), signal.SIGTERM)
        return holds

    before = signal.getsignal(signal.SIGTERM)

    termination, control, state = Termination(asked), TrainerControl(), TrainerState(max_steps=9)
    args = RagTrainingArguments(output_dir="run", report_to="none")
    with termination.watched():
        termination.on_step_end(args, state, control)
        assert not control.should_training_stop  # the other processes know nothing of it
        termination.on_step_end(args, state, control)
    assert control.should_training_stop and control.should_save


def test_a_bound_on_patience():
    with pytest.raises(ParameterError, match="early_stopping_patience=-1: must be at least 0"):
        RagTrainingArguments(output_dir="run", early_stopping_patience=-1)
    with pytest.raises(TrainingError, match="enable_jit_checkpoint=True: is not possible here"):
        RagTrainingArguments(output_dir="run", enable_jit_checkpoint=True)
