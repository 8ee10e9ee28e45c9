"""How often drift is seen that is none, in a short form; in full by ``make calibrate``."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from undrifted_features import ALPHA, THRESHOLD, Month, first_yes, psi_of

from autoretrain.adapters.drift_process import same_shares


def test_few_rows_of_many_features_pass_a_threshold_by_luck_and_no_error_rate() -> None:
    first = first_yes(Month.of(1, a_day=4), [None, ALPHA])
    assert first[None] is not None
    assert first[ALPHA] is None


def test_a_shift_is_found_with_an_error_rate_too() -> None:
    first = first_yes(Month.of(1, a_day=8, shift=1.5), [ALPHA])
    assert first[ALPHA] is not None


def test_shares_of_categories_are_compared_as_two_samples() -> None:
    """Uniform p-values where nothing has changed: the reference is a sample, too."""
    random = np.random.default_rng(3)
    sides = [(random.integers(6, size=300), random.integers(6, size=120)) for _ in range(400)]
    p_values = [same_shares([pd.Series(side) for side in pair]) for pair in sides]
    assert stats.kstest([p for p in p_values if p is not None], "uniform").pvalue > 0.01
    one = pd.Series(["a"] * 5)
    assert same_shares([one, one]) == 1.0


@pytest.mark.slow
def test_the_simulations_index_is_evidentlys() -> None:
    from evidently.legacy.calculations.stattests import psi_stat_test
    from evidently.legacy.core import ColumnType

    random = np.random.default_rng(5)
    pairs = [
        (random.standard_normal(900), random.standard_normal(300) + 0.3, ColumnType.Numerical),
        (random.lognormal(size=900), random.lognormal(size=120), ColumnType.Numerical),
        (random.integers(6, size=900), random.integers(6, size=120), ColumnType.Categorical),
    ]
    for reference, current, kind in pairs:
        theirs = psi_stat_test(pd.Series(reference), pd.Series(current), kind, THRESHOLD).drift_score
        assert psi_of(reference, current) == pytest.approx(theirs)
