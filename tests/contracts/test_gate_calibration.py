"""How often candidates are taken for better, in a short form; in full by ``make calibrate``."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from null_candidates import (
    CLASSES,
    NUMBERS,
    SETTINGS,
    Setting,
    Trial,
    on_a_growing_holdout,
    on_fresh_holdouts,
    on_one_holdout,
    one_trial,
)
from promotion_rules import (
    ALPHA,
    FIRST,
    IMPROVED,
    NOT_WORSE,
    SHARE,
    SUPERIOR,
    TRIES,
    at_each_look,
    by_any_point,
    by_claim,
    by_mlflow,
    by_seed,
    ever,
    shown,
)
from scipy import stats

from autoretrain.domain.claims import Claim

INDEPENDENT, HOURLY, SLOW_HOURS, GROUPED = SETTINGS
GATE = by_claim(IMPROVED)


def most(rate: float, count: int) -> int:
    """More hits than this has a chance of one in a thousand at the rate."""
    return int(stats.binom.ppf(0.999, count, rate))


def hits(claim: Claim, trials: Iterable[Trial]) -> int:
    """How many are promoted at a quarter's first decision."""
    return sum(shown(claim, trial, FIRST) for trial in trials)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_null_candidates_are_promoted_no_more_often_than_said(setting: Setting) -> None:
    trials = [one_trial(setting, "accuracy", seed) for seed in range(60)]
    assert hits(IMPROVED, trials) <= most(FIRST, 60)
    assert hits(SUPERIOR, trials) <= most(FIRST, 60)
    assert sum(by_any_point(trial, 1) for trial in trials) > 15
    worse = [one_trial(setting, "accuracy", seed, -SHARE) for seed in range(60)]
    assert hits(NOT_WORSE, worse) <= most(FIRST, 60)


@pytest.mark.slow
@pytest.mark.parametrize("measure", [*CLASSES, *NUMBERS])
@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_measure_keeps_its_level(setting: Setting, measure: str) -> None:
    trials = [one_trial(setting, measure, seed) for seed in range(100)]
    assert hits(IMPROVED, trials) <= most(FIRST, 100)
    assert hits(SUPERIOR, trials) <= most(FIRST, 100)
    worse = [one_trial(setting, measure, seed, -SHARE) for seed in range(100)]
    assert hits(NOT_WORSE, worse) <= most(FIRST, 100)


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_the_calibration_error_keeps_its_level(setting: Setting) -> None:
    """It has no candidates that are better by a share: fewer errors are not better scores."""
    trials = [one_trial(setting, "ece", seed) for seed in range(60)]
    assert hits(IMPROVED, trials) <= most(FIRST, 60)
    assert hits(SUPERIOR, trials) <= most(FIRST, 60)


@pytest.mark.parametrize("measure", [*CLASSES, *NUMBERS])
def test_a_candidate_of_the_simulation_is_as_much_better_as_is_said(measure: str) -> None:
    """Its loss, over many rows, is the share of the champion's; else no rate above would mean anything."""
    many = Setting("many", 200_000)
    new, old = one_trial(many, measure, 3, better=0.3).values
    losses = (1 - new, 1 - old) if measure not in ("log_loss", "brier", "mae", "rmse", "mape") else (new, old)
    assert losses[0] / losses[1] == pytest.approx(0.7, abs=0.02)


def test_better_candidates_are_promoted() -> None:
    trials = [one_trial(INDEPENDENT, "accuracy", seed, better=0.42) for seed in range(20)]
    assert hits(IMPROVED, trials) >= 16


def test_tries_of_a_quarter_spend_one_error_rate() -> None:
    quarters = [on_one_holdout(HOURLY, "mae", seed, TRIES) for seed in range(10)]
    assert sum(ever(GATE, trials) for trials in quarters) <= most(ALPHA, 10)
    assert sum(ever(by_any_point, trials) for trials in quarters) >= 9


@pytest.mark.slow
@pytest.mark.parametrize("way", [on_one_holdout, on_fresh_holdouts, on_a_growing_holdout])
def test_whatever_the_holdouts_a_quarter_spends_one_error_rate(way: type) -> None:
    quarters = [way(HOURLY, "mae", seed, TRIES) for seed in range(40)]
    assert sum(ever(GATE, trials) for trials in quarters) <= most(ALPHA, 40)
    assert sum(ever(by_any_point, trials) for trials in quarters) > most(ALPHA, 40)
    if way is not on_a_growing_holdout:  # where the tries are much the same
        assert sum(ever(at_each_look, trials) for trials in quarters) > most(ALPHA, 40)


def test_a_threshold_is_mlflows_and_the_seeds() -> None:
    """The comparison with MLflow runs MLflow: with 5 % it says what the seed's rule says."""
    trials = [one_trial(SLOW_HOURS, "mae", seed) for seed in range(30)]
    said = [by_seed(trial, 1) for trial in trials]
    assert [by_mlflow(0.05)(trial, 1) for trial in trials] == said
    assert any(said)
    assert not all(said)


def test_a_comparison_is_there_in_every_setting() -> None:
    assert all(one_trial(setting, "f1", 5).paired is not None for setting in SETTINGS)
