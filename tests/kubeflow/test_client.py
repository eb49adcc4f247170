import pytest

from ragtune.errors import ClusterError
from ragtune.kubeflow.client import list_runs, stop, submit
from ragtune.kubeflow.connection import connect
from ragtune.kubeflow.package import upload

PARAMETERS = {"questions": "s3://b/q", "corpus": "s3://b/c", "max_steps": 20, "training_options": {"fp16": True}}


def test_a_run_starts_in_its_experiment_with_its_parameters(package, server, connection):
    run_id = submit(connection, upload(connection, package), PARAMETERS, "nightly", "first", "trainer")
    run = server.runs[run_id]
    assert run["runtime_config"]["parameters"] == PARAMETERS
    assert (run["display_name"], run["service_account"]) == ("first", "trainer")
    assert run["pipeline_version_reference"]["pipeline_version_id"] in server.versions
    submit(connection, upload(connection, package), PARAMETERS, "nightly", "second")
    assert [one["display_name"] for one in server.experiments.values()] == ["nightly"]


def test_runs_are_listed_newest_first_also_of_one_experiment(package, server, connection):
    version = upload(connection, package)
    for experiment, name in (("a", "one"), ("b", "two"), ("a", "three")):
        submit(connection, version, PARAMETERS, experiment, name)
    assert [run.display_name for run in list_runs(connection)] == ["three", "two", "one"]
    assert [run.display_name for run in list_runs(connection, "a")] == ["three", "one"]
    assert [run.display_name for run in list_runs(connection, most=1)] == ["three"]
    with pytest.raises(ClusterError, match="--experiment c: there is none of that name"):
        list_runs(connection, "c")


def test_a_run_is_stopped_and_one_that_has_ended_is_left(package, server, connection):
    run_id = submit(connection, upload(connection, package), PARAMETERS, "a", "one")
    assert stop(connection, run_id) == "PENDING"
    assert server.runs[run_id]["state"] == "CANCELING"
    server.play(("SUCCEEDED", {}))
    assert stop(connection, run_id) == "SUCCEEDED"
    with pytest.raises(ClusterError, match="404, run nobody not found"):
        stop(connection, "nobody")


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"corpus": "c"}, "parameter questions is not optional"),
        ({**PARAMETERS, "steps": 3}, r"parameter\(s\) provided are not required by pipeline: steps"),
        ({**PARAMETERS, "max_steps": "3"}, "max_steps requires type NUMBER_INTEGER"),
    ],
)
def test_parameters_that_the_server_refuses_are_named(package, connection, parameters, told):
    with pytest.raises(ClusterError, match=f"starting the run one: .* 400, .*{told}"):
        submit(connection, upload(connection, package), parameters, "a", "one")


def test_names_and_archived_experiments_are_refused_before_the_server_does(package, server, connection):
    version = upload(connection, package)
    for name in ("", " ", "x" * 129):
        with pytest.raises(ClusterError, match=r"--name .* give 1 to 128 letters"):
            submit(connection, version, PARAMETERS, "a", name)
    submit(connection, version, PARAMETERS, "old", "one")
    next(iter(server.experiments.values()))["storage_state"] = "ARCHIVED"
    with pytest.raises(ClusterError, match="--experiment old: is archived; restore it"):
        submit(connection, version, PARAMETERS, "old", "two")


def test_each_user_sees_the_runs_of_their_namespace(package, server):
    server.multi_user, server.namespaces = True, ("mine", "yours")
    mine, yours = connect(server.host, "mine"), connect(server.host, "yours")
    submit(mine, upload(mine, package), PARAMETERS, "a", "one")
    assert [run.display_name for run in list_runs(mine)] == ["one"]
    assert list_runs(yours) == []
