"""Cron slots: the moments at which a schedule wants a model retrained.

A cron expression names minutes of the wall clock; a zone's clock skips some minutes and shows others twice.
The rule is this, and docs/decisions.md says why:

- An expression that names some hours (``30 2 * * *``) comes due once for each minute it names: at the first
  instant at which the clock shows that minute or a later one. What a clock skips comes when it has skipped
  it; what it shows twice comes the first time.
- An expression that names every hour (``*/15 * * * *``) comes due whenever the clock shows such a minute: it
  goes on through an hour that is shown twice, and misses nothing where one is skipped.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from .cron import Cron, NeverDue, read_cron

_TICK = timedelta(microseconds=1)
_MINUTE = timedelta(minutes=1)
_DAY = timedelta(days=1)
_WEEK = timedelta(days=7)
_MIDNIGHT = "0 0 * * *"


def check_expression(expression: str) -> str:
    """Check a cron expression of five fields.

    Returns:
        The expression, without surrounding space.

    Raises:
        ValueError: It is not one, or it never comes due.
    """
    from croniter import croniter

    text = expression.strip()
    # croniter also reads hashed and random fields (H, R), whose slots would be drawn anew at every look.
    drawn = any(field.lower().startswith(("h", "r")) for field in text.replace(",", " ").split())
    if drawn or len(text.split()) != 5 or not croniter.is_valid(text):
        raise ValueError('not a cron expression; five fields such as "0 0 * * 0" (Sundays at midnight)')
    try:
        read_cron(text).first(datetime(2024, 1, 1))  # noqa: DTZ001  (a calendar has no zone)
    except NeverDue:
        raise ValueError("this cron expression never comes due") from None
    return text


def latest_slot(expression: str, time_zone: str, now: datetime) -> datetime:
    """The last slot at or before ``now``, in UTC."""
    cron, zone = read_cron(expression), ZoneInfo(time_zone)
    latest = _latest_reading if cron.every_hour else _latest_named
    return latest(cron, zone, now.astimezone(UTC))


def next_slot(expression: str, time_zone: str, now: datetime) -> datetime:
    """The first slot after ``now``, in UTC."""
    cron, zone = read_cron(expression), ZoneInfo(time_zone)
    following = _next_reading if cron.every_hour else _next_named
    return following(cron, zone, now.astimezone(UTC))


@lru_cache(maxsize=1024)
def count_slots(expression: str, time_zone: str, after: datetime, upto: datetime) -> int:
    """Number of slots in ``(after, upto]``.

    Weeks in which no clock changes are counted by arithmetic: 10,000 slots take some milliseconds at most. A
    look asks for the same several times.
    """
    cron, zone = read_cron(expression), ZoneInfo(time_zone)
    at, end, number = after.astimezone(UTC), upto.astimezone(UTC), 0
    while at < end:
        # No clock is changed and changed back within a week. The day on which one is is stepped through.
        for length in (_WEEK, _DAY):
            stop = min(at + length, end)
            begin, until = at.astimezone(zone), stop.astimezone(zone)
            if begin.fold == 0 and begin.utcoffset() == until.utcoffset():
                number += cron.count(begin.replace(tzinfo=None), until.replace(tzinfo=None))
                break
        else:
            slot = next_slot(expression, time_zone, at)
            while slot <= stop:
                number, slot = number + 1, next_slot(expression, time_zone, slot)
        at = stop
    return number


def day_of(time_zone: str, now: datetime) -> tuple[datetime, datetime]:
    """Beginning and end of the calendar day that a time lies in, in UTC."""
    return latest_slot(_MIDNIGHT, time_zone, now), next_slot(_MIDNIGHT, time_zone, now)


# -- some hours: each named minute once ---------------------------------------------------------------------


def _instant(zone: ZoneInfo, reading: datetime) -> datetime:
    """The first instant at which a zone's clock shows a time or a later one."""
    before, after = (reading.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if after >= before:  # shown once, or twice: fold 0 is the first time
        return before
    # Skipped. Read with the offsets of both sides, it lies on either side of the change.
    return _change(after, before, lambda at: _reading(zone, at) >= reading)


def _latest_named(cron: Cron, zone: ZoneInfo, now: datetime) -> datetime:
    local = now.astimezone(zone)
    # When the hour is shown again, the clock has been further already.
    ahead = local.replace(fold=0).utcoffset(), local.replace(fold=1).utcoffset()
    further = ahead[0] - ahead[1] if local.fold and None not in ahead else timedelta(0)  # type: ignore[operator]
    slot = cron.last(local.replace(tzinfo=None) + further)
    while (at := _instant(zone, slot)) > now:
        slot = cron.last(slot - _MINUTE)
    return at


def _next_named(cron: Cron, zone: ZoneInfo, now: datetime) -> datetime:
    slot = cron.first(_reading(zone, now) + _TICK)
    while (at := _instant(zone, slot)) <= now:
        slot = cron.first(slot + _MINUTE)
    return at


# -- every hour: whenever the clock shows it ----------------------------------------------------------------


def _next_reading(cron: Cron, zone: ZoneInfo, now: datetime) -> datetime:
    """Go forward day by day, or to the change of the clock within a day: offsets do not change between."""
    begin = now + _TICK
    while True:
        change = _first_change(zone, begin, begin + _DAY)
        reading = _reading(zone, begin)
        at = begin + (cron.first(reading) - reading)
        if at < (change or begin + _DAY):
            return at
        begin = change or max(begin + _DAY, at - 2 * _DAY)  # no clock is ever set by more than a day


def _latest_reading(cron: Cron, zone: ZoneInfo, now: datetime) -> datetime:
    """Likewise backward."""
    end = now
    while True:
        change = _first_change(zone, end - _DAY, end)
        reading = _reading(zone, end)
        at = end - (reading - cron.last(reading))
        if at >= (change or end - _DAY):
            return at
        end = change - _TICK if change else min(end - _DAY, at + 2 * _DAY)


def _first_change(zone: ZoneInfo, begin: datetime, end: datetime) -> datetime | None:
    """When a zone's offset becomes what it is at the end; ``None`` when it is that at the beginning."""
    offset = end.astimezone(zone).utcoffset()
    if begin.astimezone(zone).utcoffset() == offset:
        return None
    return _change(begin, end, lambda at: at.astimezone(zone).utcoffset() == offset)


def _reading(zone: ZoneInfo, at: datetime) -> datetime:
    """What a zone's clock shows, as a plain wall-clock time."""
    return at.astimezone(zone).replace(tzinfo=None)


def _change(begin: datetime, end: datetime, changed: Callable[[datetime], bool]) -> datetime:
    """The first whole second in ``(begin, end]`` at which something has changed; it has at the end."""
    low = begin.replace(microsecond=0)
    high = end if end.microsecond == 0 else end.replace(microsecond=0) + timedelta(seconds=1)
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=(high - low) // timedelta(seconds=2))
        low, high = (low, middle) if changed(middle) else (middle, high)
    return high
