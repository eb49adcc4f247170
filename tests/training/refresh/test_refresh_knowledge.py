"""The plan of refreshes: when one is due, and how long training waits for it. Real refreshes are in test_worker.py."""

from types import SimpleNamespace

import pytest
from transformers import TrainerState

from ragtune.errors import TrainingError
from ragtune.training.refresh.devices import RefreshDevices
from ragtune.training.refresh.knowledge import RefreshedKnowledge


class Refresher:
    """What `RefreshedKnowledge` asks of one, without a process."""

    def __init__(self, folder):
        self.folder, self.step, self.done, self.devices = folder, None, None, RefreshDevices(("cpu",))
        self.dropped = []

    def finished(self):
        done, self.done = self.done, None
        if done is not None:
            self.step = None
        return done

    def base_folder(self, step):
        return self.folder / str(step)

    def steps(self):
        return [10, 20, 30]

    def drop(self, step):
        self.dropped.append(step)

    def stop(self):
        pass


@pytest.fixture
def knowledge(tmp_path):
    def knowledge(**args):
        made = RefreshedKnowledge.__new__(RefreshedKnowledge)
        defaults = {"refresh_every": 10, "max_staleness": 0, "process_index": 0}
        made.args, made.refresher = SimpleNamespace(**defaults | args), Refresher(tmp_path)
        made.every = made.args.refresh_every
        made.step, made._last_start, made.refreshes, made.refresh_seconds = 0, 0, 0, 0.0
        made._begun, made._kept, made._obsolete, made._told_slow = None, set(), True, True
        return made

    return knowledge


def plan(knowledge, step, attempts=0, max_steps=100):
    return knowledge._plan(TrainerState(global_step=step, max_steps=max_steps), attempts)


def test_one_is_due_refresh_every_steps_after_the_last_was_begun(knowledge):
    made = knowledge()
    assert [plan(made, step)[1] for step in (1, 9, 10, 11)] == [False, False, True, True]
    made._last_start = 10
    assert not plan(made, 11)[1] and plan(made, 20)[1]
    made.refresher.step = 10  # under way
    assert plan(made, 30) == (0, False, False)


def test_training_waits_only_where_what_is_searched_is_older_than_the_limit(knowledge):
    assert plan(knowledge(), 99)[2] is False
    made = knowledge(max_staleness=15)
    assert plan(made, 15)[2] is False
    assert plan(made, 16)[1:] == (True, True)
    made.refresher.step = 10
    assert plan(made, 16)[1:] == (False, True)


def test_a_finished_one_is_switched_to_and_counted(knowledge):
    made = knowledge(max_staleness=15)
    made.refresher.step, made.refresher.done = 10, SimpleNamespace(step=10, seconds=4.0)
    assert plan(made, 19) == (10, True, False)
    assert made.figures() == {"refreshes": 1, "refresh_seconds": 4.0}


def test_no_refresh_is_begun_at_the_last_step(knowledge):
    assert plan(knowledge(max_staleness=15), 100) == (0, False, False)


def test_training_does_not_wait_for_ever_where_refreshes_fail(knowledge):
    made = knowledge(max_staleness=15)
    assert plan(made, 16, attempts=2)[2]
    with pytest.raises(TrainingError, match=r"step 16: the knowledge base is 16 steps old, .* failed 3 times"):
        plan(made, 16, attempts=3)


def test_a_checkpoint_remembers_what_is_searched_and_under_way(knowledge, tmp_path, capsys):
    made = knowledge()
    made.step, made._last_start, made.refreshes, made.refresh_seconds, made.refresher.step = 20, 30, 2, 9.0, 30
    made.save(tmp_path)
    again = knowledge()
    (tmp_path / "20").mkdir()
    again.load(tmp_path)
    assert (again.step, again._begun, again._last_start) == (20, 30, 30)
    assert again.figures() == {"refreshes": 2, "refresh_seconds": 4.5} and again.staleness(33) == 13
    (tmp_path / "20").rmdir()
    again.load(tmp_path)
    assert again.step == 0
    assert "the knowledge base of step 20 is gone" in capsys.readouterr().err


def test_what_is_searched_kept_or_under_way_is_not_dropped(knowledge):
    made = knowledge()
    made.step, made._kept = 20, {10}
    made._drop_obsolete()
    assert made.refresher.dropped == [30]
    made._drop_obsolete()
    assert made.refresher.dropped == [30]  # once is enough
