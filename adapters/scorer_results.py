"""What a scorer answers: values, and reasons why there is none."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ..ports.scorer import Scores, ScoringTask

Measure = float | str
"""A value, or the reason why there is none."""

MEASURES = {
    "classification": ("accuracy", "precision", "recall", "f1", "roc_auc", "log_loss", "brier", "ece"),
    "regression": ("mae", "rmse", "r2", "mape"),
}
"""What is measured of a model of each kind."""


def without_rows(task: ScoringTask, given: Iterable[str], identical: bool = False) -> Scores:
    """No measure at all, and why."""
    names = (*MEASURES[task.kind], *(own.name for own in task.own))
    reasons: dict[str, Measure] = dict.fromkeys(names, "the holdout has no labelled rows")
    return scores_of(0, dict.fromkeys(given, reasons), identical=identical)


def with_own(scores: Scores, values: Mapping[str, Mapping[str, Measure]]) -> Scores:
    """Further measures beside those that are there.

    Args:
        scores: What is there.
        values: The others, by version and name.
    """
    own = scores_of(scores.rows, values)
    return replace(
        scores,
        candidate={**scores.candidate, **own.candidate},
        champion={**scores.champion, **(own.champion or {})} if scores.champion is not None else None,
        unknown={**scores.unknown, **own.unknown},
    )


def scores_of(rows: int, measured: Mapping[str, Mapping[str, Measure]], **details: Any) -> Scores:
    """Measures of each version, or the reasons why there are none, as they cross the port.

    Args:
        rows: Labelled rows.
        measured: By version and name.
        details: Further fields.
    """
    checked = {
        who: {name: _finite(value) for name, value in measures.items()} for who, measures in measured.items()
    }
    values = {
        who: {name: None if isinstance(value, str) else value for name, value in measures.items()}
        for who, measures in checked.items()
    }
    unknown = {name: _reason(checked, name) for name in checked["candidate"]}
    return Scores(
        rows=rows,
        candidate=values["candidate"],
        champion=values.get("champion"),
        unknown={name: reason for name, reason in unknown.items() if reason},
        **details,
    )


def _finite(value: Measure) -> Measure:
    if isinstance(value, str):
        return value
    return float(value) if math.isfinite(value) else "the result is not finite"


def _reason(measured: Mapping[str, Mapping[str, Measure]], name: str) -> str:
    reasons = {who: value for who, measures in measured.items() if isinstance(value := measures[name], str)}
    if len(reasons) == len(measured) and len(set(reasons.values())) == 1:
        return next(iter(reasons.values()))
    return "; ".join(f"{who}: {reason}" for who, reason in reasons.items())
