from datetime import UTC, datetime, timedelta

import pytest

from ragtune.errors import ClusterError, ParameterError
from ragtune.kubeflow import schedule as schedules
from ragtune.kubeflow.client import submit
from ragtune.kubeflow.connection import connect
from ragtune.kubeflow.package import upload
from ragtune.kubeflow.schedule import find, list_schedules, next_times, schedule, trigger

PARAMETERS = {"questions": "q", "corpus": "c"}


@pytest.fixture
def make(package, connection):
    def one(name="nightly", cron="0 3 * * 1", **options):
        when = trigger(cron) if cron else trigger(every=3600)
        return schedule(connection, upload(connection, package), PARAMETERS, "a", name, when, **options)

    return one


def test_a_schedule_runs_the_newest_version_with_its_parameters(server, make):
    made = make()
    one = server.schedules[made.recurring_run_id]
    assert one["trigger"] == {"cron_schedule": {"cron": "0 0 3 * * 1"}}
    assert list(one["pipeline_version_reference"]) == ["pipeline_id"]
    assert one["runtime_config"] == {"parameters": PARAMETERS}
    assert (one["max_concurrency"], one["no_catchup"], one["status"]) == ("1", True, "ENABLED")


def test_a_pinned_one_by_an_interval_names_its_version(server, make):
    one = server.schedules[make(cron="", pinned=True, at_once=2).recurring_run_id]
    assert one["trigger"] == {"periodic_schedule": {"interval_second": "3600"}}
    assert one["pipeline_version_reference"]["pipeline_version_id"] in server.versions
    assert one["max_concurrency"] == "2"


def test_a_new_one_stands_before_the_old_one_of_its_name_is_retired(server, make):
    other, old = make("weekly"), make()
    server.requests.clear()
    new = make(cron="0 4 * * *")
    assert new.retired == [old.recurring_run_id]
    assert set(server.schedules) == {other.recurring_run_id, new.recurring_run_id}
    changes = [request for request in server.requests if not request.startswith("GET")]
    assert changes == [
        "POST /apis/v2beta1/recurringruns",
        f"DELETE /apis/v2beta1/recurringruns/{old.recurring_run_id}?propagation_policy=ORPHAN",  # its runs go on
    ]


def test_a_new_one_runs_where_one_of_several_old_ones_did(server, make):
    running, stopped = make().recurring_run_id, "another"
    server.schedules[stopped] = server.schedules[running] | {"recurring_run_id": stopped, "status": "DISABLED"}
    new = make(cron="0 4 * * *")
    assert sorted(new.retired) == sorted([running, stopped]) and not new.paused


def test_one_of_its_name_that_runs_another_pipeline_is_left_alone(server, make):
    other = make()
    server.schedules[other.recurring_run_id]["pipeline_version_reference"]["pipeline_id"] = "another"
    new = make(cron="0 4 * * *")
    assert new.retired == [] and set(server.schedules) == {other.recurring_run_id, new.recurring_run_id}


def test_the_old_one_stands_where_the_new_one_is_refused(server, make):
    old = make()
    server.faults["POST /apis/v2beta1/recurringruns"] = (500, '{"message": "database is locked"}')
    with pytest.raises(ClusterError, match=r"making the schedule nightly: .* 500, database is locked; try again"):
        make(cron="0 4 * * *")
    assert list(server.schedules) == [old.recurring_run_id]


def test_an_old_one_that_cannot_be_deleted_is_told(server, make):
    old = make()
    server.faults["DELETE /apis/v2beta1/recurringruns"] = (403, '{"message": "no right to delete"}')
    with pytest.raises(ClusterError) as error:
        make(cron="0 4 * * *")
    assert "both run" in str(error.value)
    assert f"`python pipeline.py schedule {old.recurring_run_id} --delete`" in str(error.value)
    assert len(server.schedules) == 2


def test_pause_resume_delete_by_name_or_id(server, connection, make):
    made = make()
    schedules.pause(connection, find(connection, "nightly"))
    assert server.schedules[made.recurring_run_id]["status"] == "DISABLED"
    again = make()
    assert again.paused and server.schedules[again.recurring_run_id]["status"] == "DISABLED"
    schedules.resume(connection, find(connection, again.recurring_run_id))
    assert server.schedules[again.recurring_run_id]["status"] == "ENABLED"
    schedules.delete(connection, find(connection, "nightly"))
    assert server.schedules == {}
    with pytest.raises(ClusterError, match="nightly: there is no such schedule"):
        find(connection, "nightly")


def test_a_name_that_two_have_is_refused_with_their_ids(server, connection, make):
    first = make()
    server.schedules["of-the-ui"] = server.schedules[first.recurring_run_id] | {"recurring_run_id": "of-the-ui"}
    with pytest.raises(ClusterError, match=r"nightly: 2 schedules have this name; give one's id: .*of-the-ui"):
        find(connection, "nightly")


def test_all_pages_are_listed(connection, make, monkeypatch):
    monkeypatch.setattr(schedules, "_PAGE", 2)
    for name in "abcde":
        make(name)
    assert [one.display_name for one in list_schedules(connection)] == list("abcde")


def test_a_changed_signature_is_refused_as_kfp_checks_parameters_once(connection, package):
    with pytest.raises(ClusterError, match="parameter questions is not optional"):
        schedule(connection, upload(connection, package), {"corpus": "c"}, "a", "nightly", trigger("0 3 * * *"))


def test_the_next_times_of_a_cron_and_of_an_interval(connection, make):
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)
    make()
    assert [time.day for time in next_times(find(connection, "nightly"), now)] == [23, 30, 7]
    make("often", cron="")
    often = find(connection, "often")
    times = next_times(often, now)
    assert times[0] > now >= times[0] - timedelta(hours=1)
    assert (times[0] - often.created_at) % timedelta(hours=1) == timedelta(0)
    schedules.pause(connection, often)
    assert next_times(find(connection, "often"), now) == []


@pytest.mark.parametrize(
    ("cron", "every", "told"),
    [
        ("0 3 * *", 0, "has 4 fields"),
        ("0 0 30 2 *", 0, "no such date comes"),
        ("", 0, "one of the two"),
        ("0 3 * * *", 60, "one of the two"),
        ("", -1, "at least one second"),
    ],
)
def test_times_that_are_not_possible_are_refused_before_the_server_is_asked(cron, every, told):
    with pytest.raises(ParameterError, match=told):
        trigger(cron, every)


def test_the_server_would_have_read_five_fields_as_seconds_first(server, package, connection):
    """Monday as a month, and midnight of every day: what `Cron` keeps from happening."""
    import kfp_server_api

    raw = kfp_server_api.V2beta1Trigger(cron_schedule=kfp_server_api.V2beta1CronSchedule(cron="0 3 * * 13"))
    with pytest.raises(ClusterError, match="13 is out of range"):
        schedule(connection, upload(connection, package), PARAMETERS, "a", "nightly", raw)


def test_at_once_has_bounds_and_a_zone_a_name(connection, make):
    for number in (0, 11):
        with pytest.raises(ParameterError, match="KFP takes 1 to 10"):
            make(at_once=number)
    with pytest.raises(ParameterError, match="--time-zone Mars: is no time zone"):
        schedules.zone("Mars")


def test_each_user_has_their_own_schedules(server, package):
    server.multi_user, server.namespaces = True, ("mine", "yours")
    for namespace in ("mine", "yours"):
        own = connect(server.host, namespace)
        schedule(own, upload(own, package), PARAMETERS, "a", "nightly", trigger("0 3 * * *"))
        submit(own, upload(own, package), PARAMETERS, "a", "by hand")
        assert len(list_schedules(own)) == 1
    assert len(server.schedules) == 2
