"""The calendar of a cron expression: which minutes of the wall clock it names, without any time zone.

croniter reads the expression; the days are walked here. Its own steps are right without a zone, but take
some 30 microseconds each, and cannot be counted without taking them all.
"""

from __future__ import annotations

import calendar
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import Any

_DAY = timedelta(days=1)

_LONGEST_SEARCH = timedelta(days=50 * 366)
"""February 29 comes eight years late at worst, on a Sunday forty: what does not come by then never does."""


class NeverDue(ValueError):
    """The expression names no minute that exists, as February 31."""


@dataclass(frozen=True)
class Cron:
    """The minutes that an expression names.

    Attributes:
        times: Minutes of a day, from 0 to 1439, sorted.
        every_hour: Whether it names all hours of the day.
        months: Months, from 1 to 12.
        days: Days of the month, and ``l`` for its last; ``None`` for all.
        weekdays: Days of the week, Sunday being 0; ``None`` for all.
        nearest: Days of the month that stand for the working day next to them (``15W``).
        nth: Which of the month's such weekdays, by day of the week (``2#3``, ``L5``); ``l`` is the last.
    """

    times: tuple[int, ...]
    every_hour: bool
    months: frozenset[int]
    days: frozenset[Any] | None
    weekdays: frozenset[int] | None
    nearest: frozenset[int]
    nth: Mapping[int, frozenset[Any]]

    def first(self, at: datetime) -> datetime:
        """The first slot at or after a wall-clock time.

        Raises:
            NeverDue: There is none.
        """
        begin = at.hour * 60 + at.minute + (at.second > 0 or at.microsecond > 0)
        if self.names(at.date()) and begin <= self.times[-1]:
            return _at(at.date(), self.times[bisect_left(self.times, begin)])
        return _at(next(self._days(at.date() + _DAY, 1)), self.times[0])

    def last(self, at: datetime) -> datetime:
        """The last slot at or before a wall-clock time.

        Raises:
            NeverDue: There is none.
        """
        end = at.hour * 60 + at.minute
        if self.names(at.date()) and end >= self.times[0]:
            return _at(at.date(), self.times[bisect_right(self.times, end) - 1])
        return _at(next(self._days(at.date() - _DAY, -1)), self.times[-1])

    def count(self, after: datetime, upto: datetime) -> int:
        """Number of slots in ``(after, upto]``, for wall-clock times in this order."""
        whole = (upto.date() - after.date()).days
        if not self._every_day:
            whole = sum(self.names(after.date() + number * _DAY) for number in range(whole))
        return whole * len(self.times) + self._until(upto) - self._until(after)

    def _until(self, at: datetime) -> int:
        """Number of slots of a day up to a time of it."""
        return bisect_right(self.times, at.hour * 60 + at.minute) if self.names(at.date()) else 0

    @property
    def _every_day(self) -> bool:
        restricted = self.days or self.weekdays or self.nearest or self.nth
        return not restricted and len(self.months) == 12

    def names(self, day: date) -> bool:
        """Whether a day has slots.

        As in every cron, a day needs to be named by one of day of month and day of week when both are
        restricted. Where ``W`` or ``#`` is used, that field alone decides, as in croniter.
        """
        if day.month not in self.months:
            return False
        weekday = day.isoweekday() % 7
        if self.nearest or self.nth:
            by_nearest = not self.nearest or day.day in self._working_days(day)
            return by_nearest and (not self.nth or self._is_nth(day, weekday))
        by_day = self.days is not None and (day.day in self.days or ("l" in self.days and _is_last(day)))
        by_weekday = self.weekdays is not None and weekday in self.weekdays
        if self.days is None or self.weekdays is None:
            return (self.days is None or by_day) and (self.weekdays is None or by_weekday)
        return by_day or by_weekday

    def _working_days(self, day: date) -> set[int]:
        last = calendar.monthrange(day.year, day.month)[1]
        return {_nearest_working_day(day, min(wanted, last), last) for wanted in self.nearest}

    def _is_nth(self, day: date, weekday: int) -> bool:
        wanted = self.nth.get(weekday, frozenset())
        is_last = (day + 7 * _DAY).month != day.month
        return (day.day - 1) // 7 + 1 in wanted or ("l" in wanted and is_last)

    def _days(self, day: date, step: int) -> Iterator[date]:
        """Days that have slots, from one on, forwards or backwards; months without any are skipped."""
        end = day + step * _LONGEST_SEARCH
        while (day < end) == (step > 0):
            if day.month not in self.months:
                day = _month_after(day) if step > 0 else day.replace(day=1) - _DAY
                continue
            if self.names(day):
                yield day
            day += step * _DAY
        raise NeverDue("this cron expression never comes due")


@lru_cache(maxsize=4096)
def read_cron(expression: str) -> Cron:
    """Read a cron expression of five fields.

    Raises:
        ValueError: croniter cannot read it.
    """
    from croniter import croniter

    read = croniter(expression, 0.0)
    minutes, hours, days, months, weekdays = (_named(field) for field in read.expanded)
    minutes = minutes or frozenset(range(60))
    return Cron(
        times=tuple(
            sorted(hour * 60 + minute for hour in hours or frozenset(range(24)) for minute in minutes)
        ),
        every_hour=hours is None or len(hours) == 24,
        months=months or frozenset(range(1, 13)),
        days=days,
        weekdays=weekdays,
        nearest=frozenset(read.nearest_weekday),
        nth={weekday: frozenset(which) for weekday, which in read.nth_weekday_of_month.items()},
    )


def _named(field: list[Any]) -> frozenset[Any] | None:
    return None if field[0] == "*" else frozenset(field)


def _at(day: date, minute: int) -> datetime:
    return datetime.combine(day, time(*divmod(minute, 60)))


def _is_last(day: date) -> bool:
    return (day + _DAY).month != day.month


def _month_after(day: date) -> date:
    return (day.replace(day=28) + 4 * _DAY).replace(day=1)


def _nearest_working_day(month: date, wanted: int, last: int) -> int:
    """The working day next to a day, within its month."""
    match month.replace(day=wanted).weekday():
        case calendar.SATURDAY:
            return wanted - 1 if wanted > 1 else wanted + 2
        case calendar.SUNDAY:
            return wanted + 1 if wanted < last else wanted - 2
    return wanted
