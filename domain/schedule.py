"""Cron slots: the moments at which a schedule wants a model retrained."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo


def check_expression(expression: str) -> str:
    """Check a cron expression of five fields.

    Returns:
        The expression, without surrounding space.

    Raises:
        ValueError: It is not one, or it never comes due.
    """
    from croniter import CroniterBadDateError, croniter

    text = expression.strip()
    # croniter also reads hashed and random fields (H, R), whose slots would be drawn anew at every look.
    drawn = any(field.lower().startswith(("h", "r")) for field in text.replace(",", " ").split())
    if drawn or len(text.split()) != 5 or not croniter.is_valid(text):
        raise ValueError('not a cron expression; five fields such as "0 0 * * 0" (Sundays at midnight)')
    try:
        croniter(text, datetime(2024, 1, 1, tzinfo=UTC)).get_next(datetime)
    except CroniterBadDateError:
        raise ValueError("this cron expression never comes due") from None
    return text


def latest_slot(expression: str, time_zone: str, now: datetime) -> datetime:
    """The last slot at or before ``now``, in UTC."""
    return _step(expression, time_zone, now, forward=False)


def next_slot(expression: str, time_zone: str, now: datetime) -> datetime:
    """The first slot after ``now``, in UTC."""
    return _step(expression, time_zone, now, forward=True)


def _step(expression: str, time_zone: str, now: datetime, forward: bool) -> datetime:
    from croniter import croniter

    zone = ZoneInfo(time_zone)
    local = now.astimezone(zone)
    if not forward and croniter.match(expression, local) and local.second == local.microsecond == 0:
        return now.astimezone(UTC)
    slots = croniter(expression, local)
    slot: datetime = slots.get_next(datetime) if forward else slots.get_prev(datetime)
    return slot.astimezone(UTC)
