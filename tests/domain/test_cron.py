"""The calendar of a cron expression, against croniter's own steps without a time zone."""

from datetime import datetime, timedelta

import pytest
from croniter import croniter
from hypothesis import given, settings
from hypothesis import strategies as st

from autoretrain.domain.cron import NeverDue, read_cron

START = datetime.fromisoformat("2023-12-01")  # a leap year lies ahead

EXPRESSIONS = [
    "* * * * *", "0 0 * * 0", "30 2 * * *", "0 0 29 2 *", "0 0 31 * *", "0 0 30 1-3 *", "59 23 l * *",
    "0 0 1,15,l * *", "*/7 */5 * * *", "0 0 13 * 5", "0 0 */10 * mon-fri", "0 0 * * 2#3", "0 0 * * L5",
    "0 0 1 * 2#1", "0 0 15W * *", "0 0 31W * 1", "0 0 1W * *", "5-10/2 22-23 * jan,dec 6,0", "0 0 ? * 7",
    "0 0 31 * 0", "0 0-23 * * *", "0 0 * * 1#5", "30 4 28-31 2 *",
]  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(EXPRESSIONS), st.integers(0, 3 * 366 * 1440), st.integers(0, 59))
def test_the_next_and_the_last_slot_are_croniters(expression: str, minutes: int, seconds: int) -> None:
    cron, at = read_cron(expression), START + timedelta(minutes=minutes, seconds=seconds)
    just_before = at - timedelta(seconds=1)
    assert cron.first(at) == croniter(expression, just_before).get_next(datetime)
    assert cron.last(at) == croniter(expression, at + timedelta(seconds=1)).get_prev(datetime)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(EXPRESSIONS), st.integers(0, 366 * 1440), st.integers(0, 3 * 1440))
def test_slots_are_counted_as_they_are_stepped_through(expression: str, begin: int, length: int) -> None:
    cron, after = read_cron(expression), START + timedelta(minutes=begin)
    upto, number = after + timedelta(minutes=length), 0
    slot = cron.first(after + timedelta(seconds=1))
    while slot <= upto:
        number, slot = number + 1, cron.first(slot + timedelta(seconds=1))
    assert cron.count(after, upto) == number


def test_a_leap_day_that_comes_eight_years_late() -> None:
    cron = read_cron("0 0 29 2 *")
    early, late = (datetime.fromisoformat(f"{year}-02-29") for year in (2096, 2104))
    assert cron.first(early + timedelta(days=1)) == late
    assert cron.last(late - timedelta(days=1)) == early


@pytest.mark.parametrize("never", ["0 0 31 2 *", "0 0 31 4,6,9,11 *"])
def test_a_day_that_never_is(never: str) -> None:
    for search in (read_cron(never).first, read_cron(never).last):
        with pytest.raises(NeverDue):
            search(START)


@pytest.mark.parametrize(
    ("expression", "every"),
    [("0 * * * *", True), ("0 0-23 * * *", True), ("0 */1 * * *", True), ("0 */2 * * *", False),
     ("* 0-22 * * *", False)],
)  # fmt: skip
def test_whether_every_hour_is_named(expression: str, every: bool) -> None:
    assert read_cron(expression).every_hour is every
