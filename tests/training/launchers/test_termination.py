"""SIGTERM to a step whose training is a TrainJob: a run that is stopped ends the job, an eviction does not."""

import os
import signal
import threading

import pytest

from ragtune.training.launchers.trainjob.cluster import Cluster
from ragtune.training.launchers.trainjob.logs import Logs
from ragtune.training.launchers.trainjob.termination import sigterm_as_exit

EVICTED = [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]


@pytest.fixture
def signalled(monkeypatch):
    """Send this process SIGTERM when a method of a class is called for the first time, before or after it works."""

    def patch(owner, name, after=False):
        method = getattr(owner, name)

        def first(*arguments, **options):
            monkeypatch.setattr(owner, name, method)
            if not after:
                os.kill(os.getpid(), signal.SIGTERM)
            answer = method(*arguments, **options)
            if after:
                os.kill(os.getpid(), signal.SIGTERM)
            return answer

        monkeypatch.setattr(owner, name, first)

    return patch


@pytest.mark.parametrize(("owner", "name", "after"), [(Logs, "follow", False), (Cluster, "create", True)])
def test_a_step_that_is_stopped_ends_its_job_and_leaves_nothing(kubernetes, step, signalled, owner, name, after):
    before = signal.getsignal(signal.SIGTERM)
    signalled(owner, name, after)
    with pytest.raises(SystemExit) as ended:
        step.run()
    assert ended.value.code == 143 and signal.getsignal(signal.SIGTERM) is before
    assert len(kubernetes.bodies) == 1 and kubernetes.jobs == {} and list(step.work.iterdir()) == []


def test_a_step_that_is_evicted_leaves_its_job_to_the_next_try(kubernetes, step, signalled, trains, capfd):
    kubernetes.pods["step"]["status"]["conditions"] = EVICTED
    signalled(Logs, "follow")
    with pytest.raises(SystemExit):
        step.run()
    (job,) = kubernetes.jobs.values()
    assert "goes on in the cluster" in capfd.readouterr().err
    threading.Timer(0.1, trains, (kubernetes, job)).start()
    step.run()
    assert len(kubernetes.bodies) == 1 and step.outcome() == {"results": {"steps": 5}}


def test_a_cluster_that_does_not_tell_of_the_pod_ends_the_job(kubernetes, step, signalled):
    signalled(Logs, "follow")
    kubernetes.controller = lambda server, job: server.denied.add("get pods")
    with pytest.raises(SystemExit):
        step.run()
    assert kubernetes.jobs == {}


def test_a_step_that_is_stopped_before_there_is_a_job_makes_none(kubernetes, step, signalled):
    signalled(Cluster, "of_namespace")
    with pytest.raises(SystemExit):
        step.run()
    assert kubernetes.bodies == [] and list(step.work.iterdir()) == []


def test_outside_of_main_threads_signals_are_left_alone():
    told = []

    def watch():
        with sigterm_as_exit():
            told.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=watch)
    thread.start()
    thread.join()
    assert told == [signal.getsignal(signal.SIGTERM)]
