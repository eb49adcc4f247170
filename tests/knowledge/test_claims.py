import contextlib
import json
import os
import subprocess
import sys
import threading
import time

import pytest

from ragtune.errors import KnowledgeBaseError
from ragtune.knowledge import claims
from ragtune.knowledge.claims import CLAIM, check_free, claimed, live_holder

DIES = "import os, pathlib, sys; from ragtune.knowledge.claims import claimed\n"
DIES += "with claimed(pathlib.Path(sys.argv[1]), 'nightly'): os._exit(9)"


def of_another_machine(folder, run="nightly", age=0.0):
    """A claim as a pod has it that cannot be asked from here."""
    told = {"run": run, "process": 7, "machine": "pod-x", "host": "elsewhere", "since": "2026", "token": "t"}
    folder.mkdir(exist_ok=True)
    (folder / CLAIM).write_text(json.dumps(told))
    touched = time.time() - age
    os.utime(folder / CLAIM, (touched, touched))


def test_one_at_a_time_holds_a_base_and_leaves_nothing(tmp_path):
    base = tmp_path / "base"
    with claimed(base, "first"):
        assert live_holder(base).run == "first"
        busy = pytest.raises(KnowledgeBaseError, match=r'base: the run "first" \(process \d+ on .*when_busy=wait')
        with busy, claimed(base, "second"):
            pass
    assert list(base.iterdir()) == []
    check_free(base)


def test_a_run_on_another_machine_is_named_and_refused_before_anything_begins(tmp_path):
    of_another_machine(tmp_path / "base")
    with pytest.raises(KnowledgeBaseError, match=r'the run "nightly" \(process 7 on pod-x, since 2026\) is ingesting'):
        check_free(tmp_path / "base")


def test_another_run_is_waited_for_and_said_to_be(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(claims, "_POLL_SECONDS", 0.02)
    of_another_machine(tmp_path / "base")
    threading.Timer(0.1, (tmp_path / "base" / CLAIM).unlink).start()
    with claimed(tmp_path / "base", "mine", wait_seconds=30):
        assert live_holder(tmp_path / "base").run == "mine"
    assert (
        'the run "nightly" (process 7 on pod-x, since 2026) is ingesting into it; waiting for at most 30 s'
        in caplog.text
    )


def test_waiting_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "_POLL_SECONDS", 0.02)
    of_another_machine(tmp_path / "base")
    with pytest.raises(KnowledgeBaseError, match="for 0 seconds and more"), claimed(tmp_path / "base", "", 0.1):
        pass


def test_the_claim_of_a_process_that_died_here_is_taken_over_at_once(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(claims, "_SETTLED_SECONDS", 0.01)
    subprocess.run([sys.executable, "-c", DIES, tmp_path], check=False)
    assert (tmp_path / CLAIM).exists()
    check_free(tmp_path)
    with claimed(tmp_path, "next"):
        assert live_holder(tmp_path).run == "next"
    assert 'the run "nightly"' in caplog.text and "is gone, and has left it half done" in caplog.text


def test_the_claim_of_a_machine_that_is_silent_is_taken_over(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "_SETTLED_SECONDS", 0.01)
    of_another_machine(tmp_path, age=89)
    with pytest.raises(KnowledgeBaseError, match="pod-x"):
        check_free(tmp_path)
    of_another_machine(tmp_path, age=91)
    with claimed(tmp_path, "next"):
        assert live_holder(tmp_path).run == "next"


def test_a_claim_is_touched_as_long_as_it_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "_TOUCHED_EVERY_SECONDS", 0.02)
    with claimed(tmp_path):
        os.utime(tmp_path / CLAIM, (0, 0))
        deadline = time.monotonic() + 10
        while (tmp_path / CLAIM).stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert live_holder(tmp_path) is not None


def test_who_was_taken_for_dead_leaves_the_others_claim_alone(tmp_path):
    with claimed(tmp_path, "slow"):
        of_another_machine(tmp_path, "quick")
    assert live_holder(tmp_path).run == "quick"


def test_half_a_claim_is_that_of_a_process_which_writes_it_now(tmp_path):
    (tmp_path / CLAIM).write_text('{"run": "nigh')
    with pytest.raises(KnowledgeBaseError, match="on an unknown machine"):
        check_free(tmp_path)
    os.utime(tmp_path / CLAIM, (0, 0))
    check_free(tmp_path)


@pytest.mark.parametrize("appears_after", [1, 2])
def test_of_two_runs_that_begin_when_a_third_has_ended_one_alone_goes_on(tmp_path, monkeypatch, appears_after):
    """The quicker one's claim appears between two looks of the slower one, unless that has made its own by then."""
    monkeypatch.setattr(claims, "_SETTLED_SECONDS", 0.01)
    if appears_after == 2:
        of_another_machine(tmp_path, "ended")
    read, looks, went_on = claims._holder, [], []

    def looked_at(folder):
        looks.append(folder)
        if len(looks) == 1 and appears_after == 2:  # given back right after this look
            found = read(folder)
            (tmp_path / CLAIM).unlink()
            return found
        if len(looks) == appears_after and not (tmp_path / CLAIM).exists():
            of_another_machine(tmp_path, "quicker")
            went_on.append("quicker")
            return None if appears_after == 1 else read(folder)
        return read(folder)

    monkeypatch.setattr(claims, "_holder", looked_at)
    with contextlib.suppress(KnowledgeBaseError), claimed(tmp_path, "slower"):
        went_on.append("slower")
    assert len(went_on) == 1


def test_of_two_runs_that_find_a_dead_ones_claim_the_quicker_takes_it_over(tmp_path, monkeypatch):
    of_another_machine(tmp_path, "dead", age=91)
    is_dead = claims._is_dead

    def judged(folder, holder):
        found = is_dead(folder, holder)
        of_another_machine(tmp_path, "quicker")
        return found

    monkeypatch.setattr(claims, "_is_dead", judged)
    with pytest.raises(KnowledgeBaseError, match="quicker"), claimed(tmp_path, "slower"):
        pass


def test_a_volume_that_cannot_be_read_for_a_moment_ends_no_claim(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(claims, "_TOUCHED_EVERY_SECONDS", 0.02)
    with claimed(tmp_path):
        read, failures = claims._holder, [claims._UNKNOWN] * 3
        monkeypatch.setattr(claims, "_holder", lambda folder: failures.pop() if failures else read(folder))
        os.utime(tmp_path / CLAIM, (0, 0))
        deadline = time.monotonic() + 5
        while (failures or (tmp_path / CLAIM).stat().st_mtime == 0) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not failures and (tmp_path / CLAIM).stat().st_mtime > 0
    assert not caplog.text
