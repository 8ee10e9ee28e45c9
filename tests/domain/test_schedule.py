"""Cron slots: which moment is the last, which the next, in any zone and when clocks change."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoretrain.domain.schedule import check_expression, latest_slot, next_slot

WEEKLY = "0 0 * * 0"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_weekly_in_utc() -> None:
    wednesday = at("2026-03-04 12:00")
    assert latest_slot(WEEKLY, "UTC", wednesday) == at("2026-03-01 00:00")
    assert next_slot(WEEKLY, "UTC", wednesday) == at("2026-03-08 00:00")


def test_a_slot_that_is_exactly_now_is_the_latest_and_not_the_next() -> None:
    sunday = at("2026-03-01 00:00")
    assert latest_slot(WEEKLY, "UTC", sunday) == sunday
    assert next_slot(WEEKLY, "UTC", sunday) == at("2026-03-08 00:00")


@pytest.mark.parametrize("late", [timedelta(microseconds=1), timedelta(seconds=59)])
def test_a_slot_stays_the_latest_within_its_minute(late: timedelta) -> None:
    sunday = at("2026-03-01 00:00")
    assert latest_slot(WEEKLY, "UTC", sunday + late) == sunday
    assert latest_slot(WEEKLY, "UTC", sunday - late) == at("2026-02-22 00:00")


def test_a_zone_is_where_the_clock_hangs() -> None:
    assert next_slot(WEEKLY, "Asia/Kolkata", at("2026-03-04 12:00")) == at("2026-03-07 18:30")
    assert next_slot("0 6 * * *", "America/New_York", at("2026-01-10 00:00")) == at("2026-01-10 11:00")
    assert next_slot("0 6 * * *", "America/New_York", at("2026-07-10 00:00")) == at("2026-07-10 10:00")


def test_slots_are_in_utc_whatever_zone_was_asked_in() -> None:
    assert next_slot(WEEKLY, "Asia/Kolkata", at("2026-03-04 12:00")).utcoffset() == timedelta(0)
    assert latest_slot(WEEKLY, "Asia/Kolkata", at("2026-03-04 12:00")).utcoffset() == timedelta(0)


def test_an_hour_that_does_not_exist_is_not_skipped() -> None:
    """Clocks in Berlin go from 2:00 to 3:00; the slot of 2:30 comes when they do."""
    before = at("2026-03-29 00:00")
    assert next_slot("30 2 * * *", "Europe/Berlin", before) == at("2026-03-29 01:00")
    assert next_slot("30 2 * * *", "Europe/Berlin", at("2026-03-29 01:00")) == at("2026-03-30 00:30")
    assert latest_slot("30 2 * * *", "Europe/Berlin", at("2026-03-29 12:00")) == at("2026-03-29 01:00")


def test_an_hour_that_comes_twice_keeps_slots_in_order() -> None:
    """Clocks in Berlin go from 3:00 back to 2:00: 2:30 first comes in summer time."""
    assert next_slot("30 2 * * *", "Europe/Berlin", at("2026-10-25 00:00")) == at("2026-10-25 00:30")
    assert latest_slot("30 2 * * *", "Europe/Berlin", at("2026-10-25 00:45")) == at("2026-10-25 00:30")
    assert next_slot("30 2 * * *", "Europe/Berlin", at("2026-10-25 02:00")) == at("2026-10-26 01:30")


@given(
    st.sampled_from(["0 0 * * 0", "30 2 * * *", "15 1,2,3 * * *", "0 */2 * * *", "*/15 9-17 * * 1-5"]),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"]),
    st.integers(0, 2 * 365 * 24 * 3600),
)
def test_now_lies_between_the_latest_and_the_next_slot(expression: str, zone: str, after: int) -> None:
    now = at("2026-01-01 00:00") + timedelta(seconds=after)
    latest, following = latest_slot(expression, zone, now), next_slot(expression, zone, now)
    assert latest <= now < following
    assert latest_slot(expression, zone, following) == following
    assert latest_slot(expression, zone, latest) == latest


@pytest.mark.parametrize(
    "good", [" 0 0 * * 0 ", "0 0 * * sun", "*/5 * * * *", "0 0 29 2 *", "0 0 1 jan,jul *"]
)
def test_good_expressions_come_back_without_surrounding_space(good: str) -> None:
    assert check_expression(good) == good.strip()


@pytest.mark.parametrize("bad", ["", "daily", "@weekly", "0 0 * *", "0 0 * * 0 0", "60 0 * * *", "0 0 * * 8"])
def test_bad_expressions_are_refused_with_an_example(bad: str) -> None:
    with pytest.raises(ValueError, match="five fields such as"):
        check_expression(bad)


def test_an_expression_that_never_comes_due_is_refused() -> None:
    with pytest.raises(ValueError, match="never comes due"):
        check_expression("0 0 31 2 *")


@pytest.mark.parametrize("drawn", ["R 0 * * *", "r(0-5) 0 * * *", "0 R/2 * * *", "H H * * *", "0,R 0 * * *"])
def test_slots_are_never_drawn_at_random(drawn: str) -> None:
    with pytest.raises(ValueError, match="five fields such as"):
        check_expression(drawn)
