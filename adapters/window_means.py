"""The mean of a window from its points, or why there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from ..ports.metrics import MetricQuery, MetricWindow

Points = Sequence[tuple[float, float]]
"""Time in seconds since the epoch, and value."""


def plain_mean(query: MetricQuery, points: Points) -> MetricWindow:
    """The mean of points that all weigh the same.

    Points that are NaN or infinite are left out; when they are more than half, the answer is unknown.

    Args:
        query: What was asked.
        points: The points of the window; at least one.
    """
    return _mean(query, [(at, value, 1.0) for at, value in points], rows=None)


def counted_mean(query: MetricQuery, points: Points, counts: Mapping[float, float]) -> MetricWindow:
    """The mean of points that weigh by the number of labelled predictions behind them.

    A point whose count is 0 stands for no predictions and is left out silently, whatever its value. Points
    without a usable count are left out as those that are not finite.

    Args:
        query: What was asked.
        points: The points of the window; at least one.
        counts: Number of predictions by the time of a point.
    """
    joined = [(at, value, counts.get(at, math.nan)) for at, value in points]
    counted = [point for point in joined if point[2] != 0]
    if not counted:
        return MetricWindow(query, None, "no labelled predictions in the window: all counts are 0", rows=0)
    rows = math.fsum(weight for _, _, weight in counted if 0 < weight < math.inf)
    return _mean(query, counted, rows=round(rows))


def _mean(query: MetricQuery, points: Sequence[tuple[float, float, float]], rows: int | None) -> MetricWindow:
    usable = [point for point in points if math.isfinite(point[1]) and 0 < point[2] < math.inf]
    lost = len(points) - len(usable)
    last_at = datetime.fromtimestamp(max(at for at, _, _ in usable), UTC) if usable else None
    value, reason = _weighted_mean(usable), ""
    if lost > len(usable):
        value, reason = None, f"{lost} of {len(points)} points are not finite or have no count"
    elif value is None:
        reason = "the mean is not finite"
    return MetricWindow(query, value, reason, points=len(usable), rows=rows, last_at=last_at)


def _weighted_mean(points: Sequence[tuple[float, float, float]]) -> float | None:
    try:
        total = math.fsum(weight for _, _, weight in points)
        mean = math.fsum(value * weight for _, value, weight in points) / total
    except (OverflowError, ValueError, ZeroDivisionError):
        return None
    return mean if math.isfinite(mean) else None
