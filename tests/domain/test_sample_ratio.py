"""The check of shares: against its formula, and against simulated chance."""

import math

import numpy as np
import pytest
from scipy import special

from autoretrain.domain.sample_ratio import sample_ratio
from autoretrain.domain.verdict import Answer

HALVES = {"champion": 0.5, "candidate": 0.5}
CANARY = {"champion": 0.99, "candidate": 0.01}
ALPHA = 0.01


def test_the_e_value_is_the_ratio_of_the_likelihoods() -> None:
    """A beta-binomial around one half with 100 units of prior, against one half."""
    got = sample_ratio({"champion": 70, "candidate": 30}, HALVES, ALPHA).e_value
    expected = math.exp(special.betaln(50 + 70, 50 + 30) - special.betaln(50, 50) - 100 * math.log(0.5))
    assert got == pytest.approx(expected, rel=1e-9)


def test_the_mean_e_value_of_a_true_split_is_one_exactly() -> None:
    """Over all outcomes of 30 units, each with its probability."""
    total = sum(
        math.comb(30, k) * 0.01**k * 0.99 ** (30 - k)
        * sample_ratio({"champion": 30 - k, "candidate": k}, CANARY, ALPHA).e_value
        for k in range(31)
    )  # fmt: skip
    assert total == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize("shares", [HALVES, CANARY, {"a": 0.2, "b": 0.3, "c": 0.5}])
def test_a_true_split_is_seldom_called_off_however_often_it_is_looked_at(shares: dict[str, float]) -> None:
    random, splits, alpha = np.random.default_rng(2), 400, 0.05
    off = 0
    for _ in range(splits):
        counts = random.multinomial(25, list(shares.values()), 100).cumsum(axis=0)
        looks = (dict(zip(shares, map(int, row), strict=True)) for row in counts)
        off += any(sample_ratio(look, shares, alpha).verdict.is_yes for look in looks)
    assert off / splits <= alpha + 3.1 * math.sqrt(alpha * (1 - alpha) / splits)


@pytest.mark.parametrize(
    ("shares", "true", "units"),
    [(HALVES, [0.54, 0.46], 10_000), (CANARY, [0.98, 0.02], 10_000), (HALVES, [1.0, 0.0], 40)],
)
def test_a_split_that_is_off_is_found(shares: dict[str, float], true: list[float], units: int) -> None:
    random = np.random.default_rng(4)
    for _ in range(50):
        counts = dict(zip(shares, map(int, random.multinomial(units, true)), strict=True))
        assert sample_ratio(counts, shares, ALPHA).verdict.is_yes


def test_the_reason_has_the_numbers() -> None:
    verdict = sample_ratio({"champion": 9700, "candidate": 300}, CANARY, ALPHA).verdict
    assert verdict.is_yes
    assert "of 10000 units got champion 97.00% of 99.00%, candidate 3.00% of 1.00%" in verdict.reason
    assert verdict.evidence["counts"] == {"champion": 9700, "candidate": 300}


def test_an_arm_without_a_unit_counts_as_none() -> None:
    given = sample_ratio({"champion": 20, "candidate": 0}, HALVES, ALPHA)
    assert sample_ratio({"champion": 20}, HALVES, ALPHA).e_value == given.e_value


def test_without_counts_nothing_is_known() -> None:
    assert sample_ratio({}, HALVES, ALPHA).verdict.answer is Answer.UNKNOWN


def test_millions_are_still_a_number() -> None:
    assert math.isfinite(sample_ratio({"champion": 10**9, "candidate": 1}, HALVES, ALPHA).e_value)


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(ValueError, match="share of b is 0") as caught:
        sample_ratio({"a": -1, "c": 2}, {"a": 0.9, "b": 0.0}, ALPHA)
    for part in ("the shares sum to 0.9", "a has a count of -1", "c is no arm; there are a, b"):
        assert part in str(caught.value)
