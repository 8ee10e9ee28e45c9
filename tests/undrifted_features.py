"""Two hundred features that do not drift, or one of which does, looked at every day for a month."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from autoretrain.adapters.drift_process import same_shares
from autoretrain.domain.triggers import DriftRule, Situation
from autoretrain.domain.verdict import Verdict
from autoretrain.ports.drift import ColumnDrift, DriftReport
from autoretrain.ports.registry import ModelVersion

Values = npt.NDArray[Any]
Kind = Literal["numeric", "categorical"]
FEATURES, DAYS, WINDOW = 200, 30, 30
THRESHOLD, ALPHA = 0.25, 0.05
_CATEGORIES = 6
_DAY = timedelta(days=1)
_NOW = datetime(2026, 5, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Month:
    """Values of every feature: of the reference, and of the days that a window slides over.

    Attributes:
        reference: By feature; half of them normal, a quarter log-normal, a quarter categories.
        current: The same over twice the window, in time order.
        a_day: Rows of a day.
    """

    reference: list[Values]
    current: list[Values]
    a_day: int

    @classmethod
    def of(cls, seed: int, a_day: int, shift: float = 0.0) -> Month:
        """Draw one.

        Args:
            seed: Of all chance.
            a_day: Rows of a day.
            shift: By how many standard deviations the first feature is shifted from the first look on.
        """
        random = np.random.default_rng(seed)
        reference = [_draw(random, place, 3 * WINDOW * a_day) for place in range(FEATURES)]
        current = [_draw(random, place, (WINDOW + DAYS) * a_day) for place in range(FEATURES)]
        current[0][WINDOW * a_day :] += shift
        return cls(reference, current, a_day)

    def reports(self) -> Iterator[DriftReport]:
        """What is seen day by day: the last window against the reference, the first after a day."""
        for day in range(1, DAYS + 1):
            rows = slice(day * self.a_day, (day + WINDOW) * self.a_day)
            pairs = [(old, new[rows]) for old, new in zip(self.reference, self.current, strict=True)]
            columns = [compare(f"f{place}", *pair) for place, pair in enumerate(pairs)]
            if any(column.psi is not None and column.psi > THRESHOLD for column in columns):
                columns = [with_p(column, *pair) for column, pair in zip(columns, pairs, strict=True)]
            else:
                columns = [replace(column, ks_p=1.0, chi2_p=1.0) for column in columns]
            yield DriftReport(tuple(columns))


def _draw(random: np.random.Generator, place: int, rows: int) -> Values:
    if place % 4 == 1:
        return random.lognormal(size=rows)
    if place % 4 == 3:
        return random.integers(_CATEGORIES, size=rows)
    return random.standard_normal(rows)


def compare(name: str, reference: Values, current: Values) -> ColumnDrift:
    """A feature as the drift run compares it. P-values matter above the threshold alone: they come later."""
    kind: Kind = "numeric" if _is_numeric(reference) else "categorical"
    return ColumnDrift(name, kind, psi_of(reference, current), None, len(reference), len(current))


def with_p(column: ColumnDrift, reference: Values, current: Values) -> ColumnDrift:
    """With the p-value of the KS test, or of the counts of categories."""
    import pandas as pd

    if column.kind == "categorical":
        return replace(column, chi2_p=same_shares((pd.Series(reference), pd.Series(current))))
    return replace(column, ks_p=float(stats.ks_2samp(reference, current, method="asymp").pvalue))


def psi_of(reference: Values, current: Values) -> float:
    """As Evidently computes it (0.7.23; a test holds both together), without its data frames."""
    edges = np.arange(_CATEGORIES + 1) - 0.5
    if _is_numeric(reference):
        edges = np.histogram_bin_edges(np.concatenate((reference, current)), bins="sturges")
    shares = [np.histogram(side, edges)[0] / len(side) for side in (reference, current)]
    p, q = (np.where(side == 0, _instead_of_none(side), side) for side in shares)
    return float(((p - q) * np.log(p / q)).sum())


def _instead_of_none(shares: Values) -> float:
    least = float(shares[shares > 0].min())
    return least / 1e6 if least <= 1e-4 else 1e-4


def _is_numeric(values: Values) -> bool:
    return values.dtype.kind == "f"


def first_yes(month: Month, alphas: Sequence[float | None]) -> dict[float | None, int | None]:
    """The day on which drift is seen first, by the rule's error rate; ``None`` for never.

    Args:
        month: What is looked at, daily.
        alphas: Error rates; ``None`` goes by the threshold alone.
    """
    first: dict[float | None, int | None] = dict.fromkeys(alphas)
    for day, report in enumerate(month.reports(), 1):
        for alpha in [alpha for alpha, found in first.items() if found is None]:
            first[alpha] = day if judged(report, alpha).is_yes else None
    return first


def judged(report: DriftReport, alpha: float | None) -> Verdict:
    """What the trigger says of a report, of looks once a day."""
    rule = DriftRule(THRESHOLD, WINDOW * _DAY, 3 * WINDOW * _DAY, 1, alpha, WINDOW)
    champion = ModelVersion("m", "1", "digest", "uri")
    situation = Situation("m", _NOW, _NOW - 100 * _DAY, champion)
    (query,) = rule.needs(situation)
    return rule.judge({query: report}, situation)
