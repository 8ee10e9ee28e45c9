"""The error rate of a quarter, and how decisions spend it."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoretrain.domain.spending import Spending, quarter_of

JUNE = datetime(2026, 6, 30, 23, 59, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("month", "quarter"),
    [(1, "Q1"), (3, "Q1"), (4, "Q2"), (6, "Q2"), (7, "Q3"), (9, "Q3"), (10, "Q4"), (12, "Q4")],
)
def test_a_quarter_has_three_months(month: int, quarter: str) -> None:
    assert quarter_of(datetime(2026, month, 1, tzinfo=UTC)) == f"2026-{quarter}"


def test_quarters_are_of_utc() -> None:
    assert quarter_of(datetime(2026, 7, 1, 1, tzinfo=timezone(timedelta(hours=2)))) == "2026-Q2"


def test_each_decision_has_a_smaller_level() -> None:
    spending = Spending()
    for level in (0.05 / 2, 0.05 / 6, 0.05 / 12):
        assert spending.level(0.05, JUNE) == pytest.approx(level)
        spending = spending.after(JUNE)
    assert spending == Spending("2026-Q2", 3)


def test_a_new_quarter_begins_anew() -> None:
    spending = Spending("2026-Q2", 7)
    assert spending.number(JUNE) == 8
    assert spending.number(JUNE + MINUTE) == 1
    assert spending.after(JUNE + MINUTE) == Spending("2026-Q3", 1)


@given(st.integers(1, 300), st.floats(0.001, 0.499))
def test_a_quarter_never_spends_more_than_it_has(decisions: int, alpha: float) -> None:
    spending, spent = Spending(), 0.0
    for _ in range(decisions):
        spent += spending.level(alpha, JUNE)
        spending = spending.after(JUNE)
    assert spent < alpha
    assert spent == pytest.approx(alpha * decisions / (decisions + 1))
