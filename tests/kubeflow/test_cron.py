from datetime import UTC, datetime
from itertools import islice
from zoneinfo import ZoneInfo

import pytest

from ragtune.errors import ParameterError
from ragtune.kubeflow.cron import Cron

SATURDAY = datetime(2026, 11, 21, 12, tzinfo=UTC)


def times(text, start=SATURDAY, count=3):
    return [f"{time:%m-%d %H:%M:%S}" for time in islice(Cron.parse(text).after(start), count)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 3 * * 1", ["11-23 03:00:00", "11-30 03:00:00", "12-07 03:00:00"]),
        ("*/20 12 * * *", ["11-21 12:20:00", "11-21 12:40:00", "11-22 12:00:00"]),
        ("30 0 3 * * MON-TUE", ["11-23 03:00:30", "11-24 03:00:30", "11-30 03:00:30"]),
        ("0 0 13 * 5", ["11-27 00:00:00", "12-04 00:00:00", "12-11 00:00:00"]),  # Fridays, and every 13th
        ("0 0 ? DEC,jan sun", ["12-06 00:00:00", "12-13 00:00:00", "12-20 00:00:00"]),
        ("0 0 29 2 *", ["02-29 00:00:00"]),  # 2028
        ("5/30 0 1 1 *", ["01-01 00:05:00", "01-01 00:35:00", "01-01 00:05:00"]),
        ("0 0 30 2 *", []),
    ],
)
def test_the_next_times_are_those_of_robfig_cron(text, expected):
    assert times(text, count=len(expected) or 1) == expected


def test_five_fields_get_a_second_since_kfp_would_read_the_first_as_one():
    assert Cron.parse("0 3 * * 1").text == "0 0 3 * * 1"
    assert Cron.parse("15 0 3 * * 1").text == "15 0 3 * * 1"


def test_the_times_are_in_the_zone_of_the_moment():
    berlin = SATURDAY.astimezone(ZoneInfo("Europe/Berlin"))
    first = next(Cron.parse("0 3 * * *").after(berlin))
    assert first.astimezone(UTC).hour == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("0 3 * *", "has 4 fields"),
        ("", "has 0 fields"),
        ("0 0 3 * * 1 2026", "has 7 fields"),
        ("60 3 * * *", "'60' is no minute, which goes from 0 to 59"),
        ("0 3 0 * *", "'0' is no day of the month"),
        ("0 3 * * 7", "'7' is no day of the week, which goes from 0 to 6"),
        ("0 3 L * *", "'l' is no day of the month"),
        ("0 3 * * 5-1", "'5-1' is no day of the week"),
        ("*/0 * * * *", "'*/0' is no minute"),
        ("1-2-3 * * * *", "'1-2-3' is no minute"),
        ("@daily", "has 1 fields"),
    ],
)
def test_what_kfp_would_refuse_or_misread_is_refused_here_by_field(text, told):
    with pytest.raises(ParameterError) as error:
        Cron.parse(text)
    assert told in str(error.value)
