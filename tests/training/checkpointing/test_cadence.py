from transformers import TrainerControl, TrainerState

from ragtune.training.arguments import RagTrainingArguments
from ragtune.training.checkpointing import cadence as module
from ragtune.training.checkpointing.cadence import Cadence


def test_every_checkpoint_starts_the_clock_anew(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    args, state = RagTrainingArguments(output_dir="run", report_to="none"), TrainerState(epoch=0.5)
    cadence, saved = Cadence(lambda holds: holds, seconds=100), []
    cadence.on_train_begin(args, state, TrainerControl())
    for now in range(1050, 1301, 50):
        control = TrainerControl()
        cadence.on_step_end(args, state, control)
        if control.should_save:
            saved.append(now)
            cadence.on_save(args, state, control)
    assert saved == [1100, 1200, 1300]


def test_the_checkpoint_of_an_epochs_last_step_is_written_once_after_its_validation():
    args = RagTrainingArguments(output_dir="run", report_to="none", save_steps=2)
    cadence, control, state = Cadence(lambda holds: holds), TrainerControl(should_save=True), TrainerState(epoch=1.0)
    cadence.on_step_end(args, state, control)
    assert not control.should_save
    cadence.on_epoch_end(args, state, control)
    assert control.should_save
    control.should_save = False  # as Trainer does
    cadence.on_save(args, state, control)
    cadence.on_epoch_end(args, state, control)
    assert not control.should_save
