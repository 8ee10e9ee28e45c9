"""Cron slots: which moment is the last, which the next, in any zone and when clocks change."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoretrain.domain.cron import read_cron
from autoretrain.domain.schedule import check_expression, count_slots, day_of, latest_slot, next_slot

WEEKLY = "0 0 * * 0"
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)

CHANGES = {
    "New York, forward": ("America/New_York", "2026-03-08 07:00"),
    "New York, back": ("America/New_York", "2026-11-01 06:00"),
    "Berlin, back": ("Europe/Berlin", "2026-10-25 01:00"),
    "Lord Howe, half an hour forward": ("Australia/Lord_Howe", "2026-10-03 15:30"),
    "Lord Howe, half an hour back": ("Australia/Lord_Howe", "2026-04-04 15:00"),
    "Sao Paulo, midnight skipped": ("America/Sao_Paulo", "2018-11-04 03:00"),
    "Sao Paulo, midnight put off": ("America/Sao_Paulo", "2018-02-18 02:00"),
    "St. John's, back over midnight": ("America/St_Johns", "2010-11-07 02:31"),
    "Apia, a day skipped": ("Pacific/Apia", "2011-12-30 10:00"),
    "Kwajalein, a day skipped": ("Pacific/Kwajalein", "1993-08-21 12:00"),
    "Casablanca, back for Ramadan": ("Africa/Casablanca", "2026-02-15 02:00"),
    "Troll, two hours": ("Antarctica/Troll", "2026-03-29 01:00"),
    "Dublin, back (winter is the exception there)": ("Europe/Dublin", "2026-10-25 01:00"),
}
NAMED = ["30 2 * * *", "30 1 * * *", "0 0 * * *", "15,45 0-3 * * *", "*/10 23,0,1,2 * * *", "0 */2 * * *",
         "0 12 30 * *", "20 1 * * 0", "59 23 * * *", "1 0 * * *"]  # fmt: skip
EVERY_HOUR = ["0 * * * *", "*/20 * * * *", "* * * * *", "45 * * * 0", "30 * 7,30 * *"]


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


def slots(expression: str, zone: str, after: datetime, upto: datetime) -> list[datetime]:
    found = [next_slot(expression, zone, after)]
    while found[-1] <= upto:
        found.append(next_slot(expression, zone, found[-1]))
    return found[:-1]


def shown(expression: str, zone: str, after: datetime, upto: datetime) -> list[str]:
    local = (slot.astimezone(ZoneInfo(zone)) for slot in slots(expression, zone, after, upto))
    return [f"{slot:%d %H:%M %z}" for slot in local]


class TestAClockThatChanges:
    """What is expected is written by hand, from what a clock on the wall shows."""

    def test_a_slot_that_new_york_skips(self) -> None:
        assert shown("30 2 * * *", "America/New_York", at("2026-03-07 00:00"), at("2026-03-10 00:00")) == [
            "07 02:30 -0500", "08 03:00 -0400", "09 02:30 -0400",
        ]  # fmt: skip

    def test_a_slot_that_new_york_shows_twice(self) -> None:
        assert shown("30 1 * * *", "America/New_York", at("2026-10-31 00:00"), at("2026-11-03 00:00")) == [
            "31 01:30 -0400", "01 01:30 -0400", "02 01:30 -0500",
        ]  # fmt: skip

    def test_every_hour_goes_on_through_the_hour_that_comes_twice(self) -> None:
        assert shown("30 * * * *", "America/New_York", at("2026-11-01 04:00"), at("2026-11-01 08:00")) == [
            "01 00:30 -0400", "01 01:30 -0400", "01 01:30 -0500", "01 02:30 -0500",
        ]  # fmt: skip
        found = slots("30 * * * *", "America/New_York", at("2026-03-08 00:00"), at("2026-03-09 00:00"))
        assert {later - earlier for earlier, later in pairwise(found)} == {timedelta(hours=1)}

    def test_several_slots_in_the_skipped_hour_are_one(self) -> None:
        assert shown("*/15 2 * * *", "America/New_York", at("2026-03-08 00:00"), at("2026-03-09 00:00")) == [
            "08 03:00 -0400",
        ]  # fmt: skip

    def test_half_an_hour(self) -> None:
        around = at("2026-10-03 00:00"), at("2026-10-05 00:00")
        assert shown("15 2 * * *", "Australia/Lord_Howe", *around) == ["04 02:30 +1100", "05 02:15 +1100"]
        around = at("2026-04-04 00:00"), at("2026-04-06 00:00")
        assert shown("45 1 * * *", "Australia/Lord_Howe", *around) == ["05 01:45 +1100", "06 01:45 +1030"]

    def test_a_day_that_samoa_skipped(self) -> None:
        """There was no 30 December 2011 in Apia; a slot of that day comes as the 31st begins."""
        around = at("2011-12-29 00:00"), at("2012-01-01 10:00")
        assert shown("0 12 * * *", "Pacific/Apia", *around) == [
            "29 12:00 -1000", "31 00:00 +1400", "31 12:00 +1400", "01 12:00 +1400",
        ]  # fmt: skip
        assert shown("0 12 30 12 *", "Pacific/Apia", *around) == ["31 00:00 +1400"]

    def test_leap_days_and_month_ends(self) -> None:
        years = at("2023-01-01 00:00"), at("2033-01-01 00:00")
        assert [slot.year for slot in slots("0 0 29 2 *", "Asia/Kolkata", *years)] == [2024, 2028, 2032]
        ends = slots("0 6 l * *", "UTC", at("2024-01-01 00:00"), at("2024-06-01 00:00"))
        assert [slot.day for slot in ends] == [31, 29, 31, 30, 31]
        long_months = slots("0 6 31 * *", "UTC", at("2026-01-01 00:00"), at("2027-01-01 00:00"))
        assert [slot.month for slot in long_months] == [1, 3, 5, 7, 8, 10, 12]

    def test_a_day_is_as_long_as_its_zone_makes_it(self) -> None:
        assert day_of("America/New_York", at("2026-03-08 12:00")) == (
            at("2026-03-08 05:00"), at("2026-03-09 04:00")
        )  # fmt: skip
        assert day_of("UTC", at("2026-03-08 00:00")) == (at("2026-03-08 00:00"), at("2026-03-09 00:00"))


def wall_clock(expression: str, zone: str, begin: datetime, end: datetime) -> Iterator[datetime]:
    """The rule itself, minute by minute: a clock that is watched, with a finger on how far it has come."""
    cron, where = read_cron(expression), ZoneInfo(zone)
    furthest = begin.astimezone(where).replace(tzinfo=None)
    now = begin
    while now < end:
        now += MINUTE
        reading = now.astimezone(where).replace(tzinfo=None)
        if cron.every_hour:
            if cron.last(reading) == reading:
                yield now
        elif reading > furthest and cron.last(reading) > furthest:
            yield now
        furthest = max(furthest, reading)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("expressions", [NAMED, EVERY_HOUR], ids=["some hours", "every hour"])
def test_slots_are_those_of_a_clock_that_is_watched(change: str, expressions: list[str]) -> None:
    zone, moment = CHANGES[change][0], at(CHANGES[change][1])
    offsets = {
        (moment + step).astimezone(ZoneInfo(zone)).utcoffset() for step in (-timedelta(seconds=1), 0 * DAY)
    }
    assert len(offsets) == 2, "no clock changes here"
    begin, end = moment - DAY * 1.5, moment + DAY * 1.5
    for expression in expressions:
        expected = list(wall_clock(expression, zone, begin, end))
        assert slots(expression, zone, begin, end) == expected
        assert count_slots(expression, zone, begin, end) == len(expected)


NEAR = st.one_of(
    st.sampled_from(sorted(CHANGES.values())).flatmap(
        lambda change: st.tuples(
            st.just(change[0]),
            st.integers(-48 * 3600 * 10**6, 48 * 3600 * 10**6).map(
                lambda offset: at(change[1]) + timedelta(microseconds=offset)
            ),
        )
    ),
    st.tuples(
        st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata", "America/Havana", "Africa/Cairo"]),
        st.integers(0, 20 * 366 * 86400).map(lambda seconds: at("2010-01-01 00:00") + timedelta(0, seconds)),
    ),
)
EXPRESSIONS = [*NAMED, *EVERY_HOUR, WEEKLY, "0 0 29 2 *", "0 * 29 2 *", "30 2 l * *", "*/15 9-17 * * 1-5"]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(EXPRESSIONS), NEAR)
def test_slots_are_in_order_and_none_comes_twice(expression: str, near: tuple[str, datetime]) -> None:
    zone, now = near
    latest, following = latest_slot(expression, zone, now), next_slot(expression, zone, now)
    assert latest <= now < following
    just_before = timedelta(microseconds=1)
    assert next_slot(expression, zone, latest) == following
    assert next_slot(expression, zone, latest - just_before) == latest
    assert latest_slot(expression, zone, following) == following
    assert latest_slot(expression, zone, following - just_before) == latest
    assert count_slots(expression, zone, latest, following) == 1
    assert count_slots(expression, zone, latest, now) == 0


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted({zone for zone, _ in CHANGES.values()})), st.integers(0, 23), st.integers(0, 59),
    st.dates(date(2008, 1, 1), date(2030, 1, 1)),
)  # fmt: skip
def test_a_fixed_time_has_one_instant_each_day(zone: str, hour: int, minute: int, first: date) -> None:
    """Each local day its own; a time that is skipped has the instant at which the clock goes on."""
    expression, where = f"{minute} {hour} * * *", ZoneInfo(zone)
    begin = datetime(first.year, first.month, first.day, tzinfo=UTC)
    found = [slot.astimezone(where) for slot in slots(expression, zone, begin, begin + 200 * DAY)]
    shown = [slot.date() for slot in found if (slot.hour, slot.minute) == (hour, minute)]
    assert len(shown) == len(set(shown)), "a day has two"
    for day in {shown[0] + number * DAY for number in range((shown[-1] - shown[0]).days)} - set(shown):
        slot = datetime(day.year, day.month, day.day, hour, minute, tzinfo=where)
        back = slot.astimezone(UTC).astimezone(where)
        assert back.replace(tzinfo=None) != slot.replace(tzinfo=None), f"{slot} was shown, and forgotten"
        after = [other for other in found if other.replace(tzinfo=None) > slot.replace(tzinfo=None)]
        just_before = after[0].astimezone(UTC) - timedelta(microseconds=1)
        assert just_before.astimezone(where).utcoffset() != after[0].utcoffset(), "not as the clock goes on"


def test_a_slot_that_came_the_first_time_is_not_counted_the_second() -> None:
    second = at("2026-11-01 06:10"), at("2026-11-01 06:50")  # 1:10 and 1:50 in New York, for the second time
    assert count_slots("30 1 * * *", "America/New_York", *second) == 0
    assert count_slots("30 * * * *", "America/New_York", *second) == 1


def test_ten_thousand_slots_are_counted_without_being_stepped_through() -> None:
    begin = at("2026-01-01 00:00")
    assert count_slots("*/15 * * * *", "America/New_York", begin, begin + 104 * DAY) == 104 * 96
    assert count_slots("0 0 * * *", "UTC", begin, begin + 3650 * DAY) == 3650


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
