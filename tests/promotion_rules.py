"""Rules by which a candidate may be promoted, side by side: the gate's claims, and what others do."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

from null_candidates import Trial

from autoretrain.domain.claims import Claim, Kind, judge_claim
from autoretrain.domain.promotion import Outcome, compare
from autoretrain.domain.spending import Spending, quarter_of
from autoretrain.ports.scorer import DIRECTIONS, Paired

ALPHA, FIRST, TRIES = 0.05, 0.025, 20
"""Error rate of a quarter, level of its first decision, and how often is tried."""

NOW = datetime(2026, 5, 1, tzinfo=UTC)
SHARE = 0.05
"""What is claimed: errors so much smaller, or not so much larger."""

IMPROVED = Claim(Kind.IMPROVEMENT, 0.0, "error-reduction")
SUPERIOR = Claim(Kind.SUPERIORITY, SHARE, "error-reduction")
NOT_WORSE = Claim(Kind.NON_INFERIORITY, SHARE, "error-reduction")

Rule = Callable[[Trial, int], bool]
"""Whether a trial is promoted, as the n-th of its quarter, from 1."""


def level_of(number: int) -> float:
    """Level of a quarter's n-th decision."""
    return Spending(quarter_of(NOW), number - 1).level(ALPHA, NOW)


def shown(claim: Claim, trial: Trial, level: float) -> bool:
    """Whether the gate would promote. What no interval shows without a bootstrap, none shows with it."""
    return _promotes(claim, trial.at_its_narrowest, level) and _promotes(claim, trial.paired, level)


def _promotes(claim: Claim, pair: Paired | None, level: float) -> bool:
    return pair is not None and judge_claim(claim, pair, level).outcome is Outcome.PROMOTE


def by_claim(claim: Claim) -> Rule:
    """The gate: its error rate is spent."""
    return lambda trial, number: shown(claim, trial, level_of(number))


def at_each_look(trial: Trial, number: int) -> bool:
    """The gate's interval at 5 % every time, as if there were no other."""
    return shown(IMPROVED, trial, ALPHA)


def by_any_point(trial: Trial, number: int) -> bool:
    """Whatever is measured better."""
    new, old = trial.values
    return new > old if DIRECTIONS[trial.measure] == "up" else new < old


def by_seed(trial: Trial, number: int) -> bool:
    """The seed's rule: measured better by 5 % of the champion's value."""
    decision = compare(trial.measure, DIRECTIONS[trial.measure], *trial.values, SHARE)
    return decision.outcome is Outcome.PROMOTE


def by_mlflow(least: float) -> Rule:
    """MLflow's model validation, with a minimum relative change."""
    return lambda trial, number: _validated(trial, least)


def _validated(trial: Trial, least: float) -> bool:
    from mlflow import validate_evaluation_results
    from mlflow.models.evaluation import EvaluationResult, MetricThreshold
    from mlflow.models.evaluation.validation import ModelValidationFailedException

    _quiet()
    threshold_of: Any = MetricThreshold  # MLflow states no types here
    result_of: Any = EvaluationResult
    up = DIRECTIONS[trial.measure] == "up"
    wanted = {trial.measure: threshold_of(min_relative_change=least, greater_is_better=up)}
    results = [result_of({trial.measure: value}, {}, run_id="") for value in trial.values]
    try:
        validate_evaluation_results(wanted, *results)
    except ModelValidationFailedException:
        return False
    return True


@cache
def _quiet() -> None:
    logging.getLogger("mlflow.models.evaluation.validation").setLevel(logging.WARNING)


RULES: dict[str, Rule] = {
    "better at all": by_claim(IMPROVED),
    "better by 5 %": by_claim(SUPERIOR),
    "any better point": by_any_point,
    "MLflow, 1 %": by_mlflow(0.01),
    "point, 5 %": by_seed,
}
"""By name, as in the tables. MLflow with 5 % is the seed's rule."""


def ever(rule: Rule, trials: Sequence[Trial]) -> bool:
    """Whether any of a quarter's tries is promoted."""
    return any(rule(trial, number) for number, trial in enumerate(trials, 1))
