"""The seed's promotion rule."""

from typing import Literal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from autoretrain.domain.promotion import (
    APPROVAL,
    FIRST_CHAMPION,
    POLICIES,
    SAFETY,
    SEED_POINT,
    Decision,
    Outcome,
    compare,
    improvement,
)

Direction = Literal["up", "down"]
PROMOTE, REJECT, INCONCLUSIVE = Outcome.PROMOTE, Outcome.REJECT, Outcome.INCONCLUSIVE
measures = st.floats(0.01, 1)


@given(measures, measures, st.floats(0, 1))
def test_is_the_seeds_formula(new: float, champion: float, min_improvement: float) -> None:
    decision = compare("f1", "up", new, champion, min_improvement)
    assert decision.rule == SEED_POINT
    assert (decision.outcome is PROMOTE) == ((new - champion) / champion >= min_improvement)
    assert decision.numbers == {
        "metric": "f1",
        "candidate": new,
        "champion": champion,
        "min_improvement": min_improvement,
        "improvement": (new - champion) / champion,
    }


@pytest.mark.parametrize(
    ("new", "old", "direction", "least", "outcome"),
    [
        (0.625, 0.5, "up", 0.25, PROMOTE),  # exactly what was asked for; all of it exact in binary
        (0.6249, 0.5, "up", 0.25, REJECT),
        (0.5, 0.5, "up", 0.0, PROMOTE),
        (0.4999, 0.5, "up", 0.0, REJECT),
        (1.5, 2.0, "down", 0.25, PROMOTE),
        (1.51, 2.0, "down", 0.25, REJECT),
        (2.5, 2.0, "down", 0.0, REJECT),
        (-0.25, -0.5, "up", 0.5, PROMOTE),  # by the magnitude of a negative champion
        (-0.75, -0.5, "up", 0.0, REJECT),
        (0.01, 0.0, "up", 0.05, PROMOTE),
        (0.0, 0.0, "up", 0.05, REJECT),
        (-0.01, 0.0, "up", 0.05, REJECT),
        (0.0, 0.0, "down", 0.05, REJECT),
        (0.01, 0.0, "down", 0.05, REJECT),
        (-0.01, 0.0, "down", 0.05, PROMOTE),
    ],
)
def test_direction_sign_and_boundary(
    new: float, old: float, direction: Direction, least: float, outcome: Outcome
) -> None:
    assert compare("mae" if direction == "down" else "r2", direction, new, old, least).outcome is outcome


@pytest.mark.parametrize(
    ("new", "old", "whose"),
    [
        (None, 0.9, "candidate"),
        (0.9, None, "champion"),
        (None, None, "candidate"),
        (float("nan"), 0.9, "candidate"),
        (float("inf"), 0.9, "candidate"),
        (0.9, float("nan"), "champion"),
        (0.9, float("-inf"), "champion"),
    ],
)
def test_an_unknown_value_is_inconclusive(new: float | None, old: float | None, whose: str) -> None:
    decision = compare("f1", "up", new, old, 0.05)
    assert decision.outcome is INCONCLUSIVE
    assert decision.reason == f"f1 of the {whose} is unknown"


@given(measures, measures)
def test_better_one_way_is_worse_the_other(new: float, old: float) -> None:
    up, down = improvement(new, old, "up"), improvement(new, old, "down")
    assert up is not None
    assert down is not None
    assert up == -down


@given(measures, measures, measures)
def test_a_better_candidate_is_never_judged_worse(low: float, high: float, champion: float) -> None:
    assume(low <= high)
    worse, better = (compare("f1", "up", value, champion, 0.05).outcome for value in (low, high))
    assert not (worse is PROMOTE and better is not PROMOTE)


def test_nothing_is_a_fraction_of_zero() -> None:
    assert improvement(0.5, 0.0, "up") is None
    assert compare("f1", "up", 0.5, 0.0, 0.05).reason == "f1 went from 0 to 0.5000"


def test_says_what_was_reached_and_what_was_asked_for() -> None:
    assert (
        compare("f1", "up", 0.93, 0.9, 0.05).reason
        == "f1 0.9000 -> 0.9300 is +3.33% against +5.00% asked for"
    )


def test_says_so_when_no_candidate_could_reach_it() -> None:
    reason = compare("f1", "up", 1.0, 0.96, 0.05).reason
    assert "no candidate can reach that from 0.9600, since f1 ends at 1: ask for less" in reason
    assert 'promotion.scale = "absolute"' in reason
    assert "no candidate" not in compare("f1", "up", 0.96, 0.95, 0.05).reason
    assert "no candidate" not in compare("mae", "down", 0.96, 0.96, 0.05).reason


def test_names_that_ledgers_hold_stay_as_they_are() -> None:
    assert (SEED_POINT, FIRST_CHAMPION, APPROVAL, SAFETY) == (
        "seed-point@1", "first-champion@1", "approval@1", "safety@1",
    )  # fmt: skip
    assert POLICIES == (
        "by-trigger@1", "superiority@1", "non-inferiority@1", "improvement@1", "approval@1", "seed-point@1",
    )  # fmt: skip
    assert [outcome.value for outcome in Outcome] == ["promote", "reject", "inconclusive"]


def test_a_decision_without_numbers_has_none() -> None:
    assert Decision(Outcome.REJECT, SAFETY, "no").numbers == {}


@pytest.mark.parametrize("metric", ["accuracy", "precision", "recall", "f1", "roc_auc", "r2"])
def test_every_measure_that_ends_at_one_is_told_of(metric: str) -> None:
    assert "no candidate can reach that" in compare(metric, "up", 0.97, 0.96, 0.05).reason
    assert "no candidate can reach that" not in compare("mae", "down", 0.97, 0.96, 0.05).reason


def test_what_a_perfect_candidate_would_reach_can_be_reached() -> None:
    assert "no candidate can reach that" not in compare("f1", "up", 0.6, 0.5, 1.0).reason
