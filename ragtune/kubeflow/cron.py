"""Cron as KFP's schedules have it: robfig/cron version 1, whose first field is the second."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from ragtune.errors import ParameterError

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("second", 0, 59, {}),
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of the month", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    ("day of the week", 0, 6, {name: number for number, name in enumerate(_DAYS)}),
)
_LONGEST = 5 * 366  # days that robfig/cron looks ahead for the next time


@dataclass(frozen=True)
class Cron:
    """A cron expression of KFP.

    Attributes:
        text: its six fields, second first.
        values: the values that each field allows.
        any_day: whether the day of the month or that of the week is open; where neither is, one of them is enough.
    """

    text: str
    values: tuple[frozenset[int], ...]
    any_day: bool

    @classmethod
    def parse(cls, text: str) -> "Cron":
        """Read an expression of five fields, as crontab has them, or of six with the second first.

        KFP itself takes five fields too, but reads the first as the second and leaves out the day of the week:
        `0 3 * * 1` would then run each hour in January. Here it is three o'clock on Mondays.

        Raises:
            ParameterError: another number of fields, or a field that is not possible, by name.
        """
        fields = text.lower().split()
        if len(fields) not in (5, 6):
            raise ParameterError(
                f"cron {text!r}: has {len(fields)} fields; write 5 (minute, hour, day of the month, month, day of the "
                'week), such as "0 3 * * 1", or 6 with the second first'
            )
        fields = ["0", *fields] if len(fields) == 5 else fields
        values = tuple(frozenset(_values(text, field, *bounds)) for field, bounds in zip(fields, _FIELDS, strict=True))
        return cls(" ".join(fields), values, any(field[0] in "*?" for field in (fields[3], fields[5])))

    def after(self, moment: datetime) -> Iterator[datetime]:
        """The times after `moment`, in its time zone; none where a date never comes, such as 30 February."""
        seconds, minutes, hours = (sorted(values) for values in self.values[:3])
        for days in range(_LONGEST):
            day = moment.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=days)
            if not self._on(day):
                continue
            for hour in hours:
                for minute in minutes:
                    for second in seconds:
                        time = day.replace(hour=hour, minute=minute, second=second)
                        if time > moment:
                            yield time

    def _on(self, day: datetime) -> bool:
        of_month, of_week = day.day in self.values[3], day.isoweekday() % 7 in self.values[5]
        return day.month in self.values[4] and (of_month and of_week if self.any_day else of_month or of_week)


def _values(text: str, field: str, name: str, least: int, most: int, names: dict[str, int]) -> Iterator[int]:
    for part in field.split(","):
        span, slash, step = part.partition("/")
        low, dash, high = span.partition("-")
        try:
            start = least if low in ("*", "?") else _number(low, names)
            end = most if low in ("*", "?") or (slash and not dash) else _number(high, names) if dash else start
            every = _number(step, {}) if slash else 1
        except ValueError:
            raise ParameterError(f"cron {text!r}: {part!r} is no {name}; write numbers, a-b, */n, or lists") from None
        if not least <= start <= end <= most or every < 1:
            raise ParameterError(f"cron {text!r}: {part!r} is no {name}, which goes from {least} to {most}")
        yield from range(start, end + 1, every)


def _number(text: str, names: dict[str, int]) -> int:
    if text in names:
        return names[text]
    if not (text.isascii() and text.isdigit()):
        raise ValueError(text)
    return int(text)
