"""Student's t against scipy, and its own facts."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from autoretrain.domain.student import critical, upper_tail

degrees = st.integers(1, 5000) | st.sampled_from([1, 2, 5, 100_000])


@given(st.floats(-50, 50), degrees)
def test_the_tail_is_scipys(t: float, df: int) -> None:
    assert upper_tail(t, df) == pytest.approx(stats.t.sf(t, df), rel=1e-9, abs=1e-300)


@given(st.floats(1e-9, 1 - 1e-9), degrees)
def test_the_critical_value_is_scipys(alpha: float, df: int) -> None:
    assert critical(alpha, df) == pytest.approx(stats.t.isf(alpha, df), rel=1e-9, abs=1e-9)


@given(st.floats(1e-9, 1 - 1e-9), degrees)
def test_a_critical_value_has_its_level_above_it(alpha: float, df: int) -> None:
    assert upper_tail(critical(alpha, df), df) == pytest.approx(alpha, rel=1e-9)


def test_the_ends() -> None:
    assert upper_tail(math.inf, 3) == 0
    assert upper_tail(-math.inf, 3) == 1
    assert upper_tail(0, 3) == 0.5
    assert upper_tail(1e200, 3) == 0
