"""Claims: what is shown, what is refuted, and what the rows cannot tell."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from autoretrain.domain.claims import (
    Claim,
    Interval,
    Kind,
    detectable,
    interval_of,
    judge_claim,
    mid_p,
    rows_needed,
    told,
)
from autoretrain.domain.promotion import Outcome, is_tested
from autoretrain.domain.student import critical
from autoretrain.ports.scorer import Effect, Paired, Scale

PROMOTE, REJECT, INCONCLUSIVE = Outcome.PROMOTE, Outcome.REJECT, Outcome.INCONCLUSIVE
SUPERIOR = Claim(Kind.SUPERIORITY, 0.05, "absolute")
NOT_INFERIOR = Claim(Kind.NON_INFERIORITY, 0.02, "absolute")
BETTER = Claim(Kind.IMPROVEMENT, 0.0, "absolute")
LEVEL = 0.025
REACH = float(stats.t.isf(LEVEL, 30))
"""Standard errors between an effect and its bound, with 31 units."""


def pair(value: float, error: float = 0.01, low: float = 1.0, high: float = 1.0, **more: Any) -> Paired:
    """A comparison over 31 days, with the same effect on every scale."""
    scales: tuple[Scale, ...] = ("absolute", "relative", "error-reduction")
    effects = {scale: Effect(value, error, low, high) for scale in scales}
    return replace(Paired("f1", 0.8 + value, 0.8, effects, 31, "blocks of 1 day", 1000, 1.0), **more)


def test_an_interval_reaches_as_far_as_students_t_and_the_bootstrap_say() -> None:
    found = interval_of(pair(0.1), Effect(0.1, 0.01, 1.5, 2.0), LEVEL)
    assert found.low == pytest.approx(0.1 - 1.5 * REACH * 0.01)
    assert found.high == pytest.approx(0.1 + 2.0 * REACH * 0.01)
    assert (found.value, found.level) == (0.1, LEVEL)
    assert isinstance(found, Interval)


JUST = REACH * 0.01
"""The effect whose lower bound is 0."""


@pytest.mark.parametrize(
    ("claim", "value", "outcome"),
    [
        (SUPERIOR, 0.0501, PROMOTE),
        (SUPERIOR, 0.05, PROMOTE),
        (SUPERIOR, 0.0499, INCONCLUSIVE),
        (SUPERIOR, 0.05 - JUST + 1e-6, INCONCLUSIVE),
        (SUPERIOR, 0.05 - JUST - 1e-6, REJECT),
        (NOT_INFERIOR, -0.02 + JUST + 1e-6, PROMOTE),
        (NOT_INFERIOR, -0.02 + JUST - 1e-6, INCONCLUSIVE),
        (NOT_INFERIOR, -0.02 - JUST + 1e-6, INCONCLUSIVE),
        (NOT_INFERIOR, -0.02 - JUST - 1e-6, REJECT),
        (BETTER, JUST + 1e-6, PROMOTE),
        (BETTER, JUST - 1e-6, INCONCLUSIVE),
        (BETTER, -JUST + 1e-6, INCONCLUSIVE),
        (BETTER, -JUST - 1e-6, REJECT),
    ],
)
def test_bounds_decide(claim: Claim, value: float, outcome: Outcome) -> None:
    decision = judge_claim(claim, pair(value), LEVEL)
    assert (decision.outcome, decision.rule) == (outcome, claim.kind.value)


def test_a_point_above_the_margin_is_not_enough() -> None:
    assert judge_claim(SUPERIOR, pair(0.06, error=0.05), LEVEL).outcome is INCONCLUSIVE


def test_a_heavier_tail_of_the_bootstrap_asks_for_more() -> None:
    assert judge_claim(BETTER, pair(JUST * 1.2, low=1.1), LEVEL).outcome is PROMOTE
    assert judge_claim(BETTER, pair(JUST * 1.2, low=1.3), LEVEL).outcome is INCONCLUSIVE
    assert judge_claim(BETTER, pair(-JUST * 1.2, high=1.3), LEVEL).outcome is INCONCLUSIVE


def test_fewer_units_ask_for_more() -> None:
    assert judge_claim(BETTER, pair(JUST * 1.1, units=7), LEVEL).outcome is INCONCLUSIVE


@given(st.floats(-0.2, 0.2), st.floats(1e-4, 0.1), st.sampled_from([SUPERIOR, NOT_INFERIOR, BETTER]))
def test_a_stricter_level_never_promotes_more(value: float, error: float, claim: Claim) -> None:
    strict, loose = (judge_claim(claim, pair(value, error), level).outcome for level in (0.001, 0.05))
    assert not (strict is PROMOTE and loose is not PROMOTE)
    assert not (strict is REJECT and loose is not REJECT)


@given(st.floats(-0.2, 0.2), st.floats(1e-4, 0.1), st.floats(1.0, 2.0))
def test_the_p_value_is_below_the_level_where_the_bound_is_above(
    value: float, error: float, low: float
) -> None:
    numbers = judge_claim(BETTER, pair(value, error, low), LEVEL).numbers
    assert (numbers["p"] < LEVEL) == (numbers["low"] > 0) or abs(numbers["low"]) < 1e-12


def test_a_difference_without_any_error_is_what_it_is() -> None:
    assert judge_claim(BETTER, pair(0.01, error=0.0), LEVEL).outcome is PROMOTE
    assert judge_claim(BETTER, pair(0.0, error=0.0), LEVEL).outcome is REJECT
    assert judge_claim(BETTER, pair(-0.01, error=0.0), LEVEL).outcome is REJECT


class TestOutOfReach:
    def test_a_relative_gate_above_the_end_is_refused_with_the_alternatives(self) -> None:
        claim = replace(SUPERIOR, scale="relative")
        decision = judge_claim(claim, pair(0.03, champion=0.96, candidate=0.99), LEVEL)
        assert decision.outcome is REJECT
        assert "no candidate can reach that from 0.9600" in decision.reason
        assert 'promotion.scale = "absolute"' in decision.reason

    @pytest.mark.parametrize("claim", [SUPERIOR, replace(SUPERIOR, scale="error-reduction"), BETTER])
    def test_other_claims_have_no_such_end(self, claim: Claim) -> None:
        decision = judge_claim(claim, pair(0.06, champion=0.96, candidate=0.99), LEVEL)
        assert decision.outcome is PROMOTE

    def test_a_champion_at_zero_has_no_fraction(self) -> None:
        of_zero = pair(0.1, effects={"absolute": Effect(0.1, 0.01)}, champion=0.0, candidate=0.1)
        decision = judge_claim(replace(SUPERIOR, scale="relative"), of_zero, LEVEL)
        assert decision.outcome is INCONCLUSIVE
        assert 'promotion.scale = "absolute" compares the difference' in decision.reason
        assert not is_tested(decision)
        assert judge_claim(SUPERIOR, of_zero, LEVEL).outcome is PROMOTE


class TestRowsNeeded:
    def test_so_many_rows_show_it_four_times_in_five(self) -> None:
        comparison = pair(0.02, error=0.01)
        needed = rows_needed(BETTER, comparison, comparison.effects["absolute"], LEVEL)
        assert needed == math.ceil(1000 * ((REACH + stats.norm.ppf(0.8)) * 0.01 / 0.02) ** 2)

    @pytest.mark.parametrize(
        ("claim", "value", "distance", "stretch"),
        [
            (SUPERIOR, 0.06, 0.06, 1.5),
            (SUPERIOR, 0.04, 0.01, 2.0),
            (NOT_INFERIOR, 0.0, 0.02, 1.5),
            (NOT_INFERIOR, -0.03, 0.01, 2.0),
            (BETTER, -0.02, 0.02, 2.0),
        ],
    )
    def test_either_way(self, claim: Claim, value: float, distance: float, stretch: float) -> None:
        effect = Effect(value, 0.01, 1.5, 2.0)
        needed = rows_needed(claim, pair(value), effect, LEVEL)
        assert needed == math.ceil(1000 * ((stretch * REACH + stats.norm.ppf(0.8)) * 0.01 / distance) ** 2)

    def test_exactly_between_no_number_tells(self) -> None:
        assert rows_needed(BETTER, pair(0.0), Effect(0.0, 0.01), LEVEL) is None
        reason = judge_claim(BETTER, pair(0.0), LEVEL).reason
        assert reason.endswith("with a difference like this no number of rows would show it")

    def test_an_inconclusive_decision_names_them(self) -> None:
        decision = judge_claim(BETTER, pair(0.01), LEVEL, rows_a_day=50.0)
        needed = decision.numbers["rows_needed"]
        assert f"about {needed} rows would tell, 1000 were there" in decision.reason
        assert f"(a holdout of {needed / 50:.3g} days)" in decision.reason
        assert "a holdout of" not in judge_claim(BETTER, pair(0.01), LEVEL).reason

    def test_what_a_holdout_can_show_shrinks_with_its_root(self) -> None:
        small, large = (detectable(BETTER, pair(0.0), rows, LEVEL) for rows in (1000, 4000))
        assert small is not None
        assert small == pytest.approx((REACH + stats.norm.ppf(0.8)) * 0.01)
        assert large == pytest.approx(small / 2)
        assert detectable(NOT_INFERIOR, pair(0.0), 1000, LEVEL) == pytest.approx(small - 0.02)

    def test_without_rows_or_a_scale_nothing_can_be_said(self) -> None:
        assert detectable(BETTER, pair(0.0), 0, LEVEL) is None
        assert detectable(BETTER, pair(0.0, effects={}), 1000, LEVEL) is None


class TestMidP:
    @given(st.integers(0, 400), st.integers(0, 400))
    def test_is_the_binomials(self, better: int, worse: int) -> None:
        n = better + worse
        expected = stats.binom.sf(better, n, 0.5) + stats.binom.pmf(better, n, 0.5) / 2
        assert mid_p(better, worse) == pytest.approx(expected, rel=1e-9)

    def test_decides_about_independent_rows(self) -> None:
        shown = pair(0.01, error=0.02, discordant=(20, 6))
        assert judge_claim(BETTER, shown, LEVEL).outcome is PROMOTE
        assert judge_claim(BETTER, replace(shown, discordant=(16, 8)), LEVEL).outcome is INCONCLUSIVE

    def test_has_no_say_about_a_margin(self) -> None:
        shown = pair(-0.03, error=0.001, discordant=(20, 6))
        assert judge_claim(NOT_INFERIOR, shown, LEVEL).outcome is REJECT


def test_says_what_was_measured_and_claimed() -> None:
    decision = judge_claim(replace(SUPERIOR, scale="relative"), pair(0.06, 0.01), LEVEL)
    assert decision.reason == (
        "f1 0.8000 -> 0.8600 is +6.00%, between +3.96% and +8.04% at a level of 0.025 a side "
        "(31 blocks of 1 day): better by 5 %"
    )
    assert decision.numbers["claim"] == "better by 5 %"
    assert is_tested(decision)


@pytest.mark.parametrize(
    ("value", "scale", "text"),
    [
        (0.051, "relative", "+5.10%"),
        (-0.051, "relative", "-5.10%"),
        (0.051, "absolute", "+0.0510"),
        (0.051, "error-reduction", "+5.10% of the error"),
    ],
)
def test_effects_for_people(value: float, scale: Scale, text: str) -> None:
    assert told(value, scale) == text


def test_names_of_claims() -> None:
    assert [kind.value for kind in Kind] == ["superiority@1", "non-inferiority@1", "improvement@1"]
    assert (SUPERIOR.words, NOT_INFERIOR.words, BETTER.words) == (
        "better by 0.05", "not worse by 0.02", "better at all",
    )  # fmt: skip


class TestFractions:
    """A fraction is a ratio of two measured things; its bounds are Fieller's."""

    RATIO = Effect(0.2, 0.08, base_error=0.1, shared=0.004)

    def pair(self, effect: Effect) -> Paired:
        return Paired("f1", 0.9, 0.875, {"error-reduction": effect}, 20, "blocks of 1 day", 480)

    @pytest.mark.parametrize("level", [0.1, 0.025, 0.001])
    def test_a_bound_is_as_far_off_as_its_own_error_says(self, level: float) -> None:
        found = interval_of(self.pair(self.RATIO), self.RATIO, level)
        for bound, sign in ((found.low, 1), (found.high, -1)):
            reach = sign * (found.value - bound) / self.RATIO.error_at(bound)
            assert reach == pytest.approx(critical(level, 19))

    @pytest.mark.parametrize("least", [0.0, -0.1])
    def test_the_interval_and_the_p_value_say_the_same(self, least: float) -> None:
        kind = Kind.NON_INFERIORITY if least else Kind.IMPROVEMENT
        claim = Claim(kind, -least, "error-reduction")
        p = judge_claim(claim, self.pair(self.RATIO), 0.025).numbers["p"]
        assert interval_of(self.pair(self.RATIO), self.RATIO, p).low == pytest.approx(least, abs=1e-9)

    def test_luck_of_the_champion_does_not_make_it_surer(self) -> None:
        """The error where nothing has changed is the difference's own, whatever the ratio looks like."""
        assert self.RATIO.error_at(self.RATIO.value) == pytest.approx(self.RATIO.error)
        assert self.RATIO.error_at(0) > self.RATIO.error

    def test_a_base_that_may_be_nothing_bounds_nothing(self) -> None:
        effect = Effect(0.2, 0.08, base_error=0.6)
        found = interval_of(self.pair(effect), effect, 0.025)
        assert (found.low, found.high) == (-math.inf, math.inf)

    def test_what_an_older_release_wrote_is_read_as_it_was_meant(self) -> None:
        old = Effect(0.2, 0.08)
        found = interval_of(self.pair(old), old, 0.025)
        assert found.low == pytest.approx(0.2 - 0.08 * critical(0.025, 19))
