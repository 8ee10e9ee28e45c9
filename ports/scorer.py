"""Measures of predictions against labels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal, Protocol

from .data import Snapshot
from .predictor import Predictions

DIRECTIONS: dict[str, Literal["up", "down"]] = {
    **dict.fromkeys(("accuracy", "precision", "recall", "f1", "roc_auc", "r2"), "up"),
    **dict.fromkeys(("mae", "rmse", "mape", "log_loss", "brier", "ece"), "down"),
}
"""Which way the measures we compute are better."""

Scale = Literal["relative", "absolute", "error-reduction"]
"""How far apart two values of a measure are: as a fraction of the champion's value, as their difference, or
as the fraction of the champion's distance from a perfect value that is gone. All are positive where the
candidate is better."""


@dataclass(frozen=True, slots=True)
class Units:
    """What may be resampled: rows that depend on one another stay together.

    Attributes:
        block: Least length of a block of time. Blocks are made longer where the rows depend on one another
            over longer times.
        group: Column of the snapshot that says which rows belong together; ``None`` for none.
        independent: Whether every row is declared independent of every other; then there are no blocks.
    """

    block: timedelta = timedelta(days=1)
    group: str | None = None
    independent: bool = False


@dataclass(frozen=True, slots=True)
class OwnMetric:
    """A measure that a user has written.

    Attributes:
        name: What it is called in settings, entries and metrics.
        function: Where it is, as ``module:function``.
        direction: Which way it is better.
        best: The value of a perfect model; ``None`` where there is none, and then no difference is told as a
            fraction of the distance from it.
    """

    name: str
    function: str
    direction: Literal["up", "down"]
    best: float | None = None


@dataclass(frozen=True, slots=True)
class ScoringTask:
    """How a model is to be measured.

    Attributes:
        kind: Classification gives accuracy, precision, recall, f1 (and roc_auc, log_loss, brier, ece
            with scores); regression gives mae, rmse, r2, mape.
        positive: The class that counts as positive, as text; ``None`` for the average below.
        average: How classes are averaged when no positive class is named.
        compared: Measure whose difference between two versions is wanted with its uncertainty; ``None`` for
            none.
        units: What may be resampled to learn that.
        segments: Columns of the snapshot; rows that share a value of one are compared by themselves, too.
        guarded: Further measures whose difference is wanted.
        own: The user's own measures, which are computed beside those of the kind.
    """

    kind: Literal["classification", "regression"]
    positive: str | None = None
    average: Literal["macro", "weighted", "micro"] = "macro"
    compared: str | None = None
    units: Units = field(default_factory=Units)
    segments: tuple[str, ...] = ()
    guarded: tuple[str, ...] = ()
    own: tuple[OwnMetric, ...] = ()


@dataclass(frozen=True, slots=True)
class Effect:
    """How much better the candidate is on one scale, and how well that is known.

    A lower bound at the one-sided level ``a`` is ``value - low * t(1 - a, units - 1) * error``, an upper one
    ``value + high * t(1 - a, units - 1) * error``, with the quantile of Student's t. An effect that is a
    fraction is a ratio of two things measured: ``base_error`` and ``shared`` are there for Fieller's bounds,
    since a candidate that was lucky makes the error of the ratio look small.

    Attributes:
        value: The effect on these rows; positive where the candidate is better.
        error: Its standard error.
        low: How much longer the lower side is than Student's t has it, by the bootstrap; 1 or more.
        high: Likewise the upper side.
        base_error: Standard error of what the difference is a fraction of, as a fraction of it; 0 where it is
            a constant, or nobody said.
        shared: Covariance of the difference and of what it is a fraction of, over the square of that.
    """

    value: float
    error: float
    low: float = 1.0
    high: float = 1.0
    base_error: float = 0.0
    shared: float = 0.0

    def error_at(self, value: float) -> float:
        """Standard error of the difference less this fraction of the base, were that the true effect."""
        own = self.error**2 + 2 * self.value * self.shared - (self.value * self.base_error) ** 2
        return math.sqrt(max(own - 2 * value * self.shared + (value * self.base_error) ** 2, 0.0))


@dataclass(frozen=True, slots=True)
class Paired:
    """Two versions compared on the same rows, so that an interval of their difference can be told.

    Attributes:
        measure: What is compared.
        candidate: The candidate's value.
        champion: The champion's value.
        effects: By scale; one that is not defined (a fraction of 0) is absent.
        units: Number of units that were resampled.
        unit: What one of them is, in words.
        rows: Labelled rows.
        dependence: Over how many rows in time order they depend on one another (the integrated
            autocorrelation time of the difference); 1 where they do not, ``None`` where it was not measured.
        discordant: Rows only the candidate got right, rows only the champion got right, where rows were
            declared independent and accuracy is compared; else ``None``.
    """

    measure: str
    candidate: float
    champion: float
    effects: Mapping[Scale, Effect]
    units: int
    unit: str
    rows: int
    dependence: float | None = None
    discordant: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Scores:
    """Measures of one or two versions on the same rows.

    Attributes:
        rows: Number of rows with a label.
        candidate: Measures of the candidate by name; ``None`` where one cannot be computed.
        champion: The same of the champion; ``None`` when no champion was scored.
        unknown: Why a measure is ``None``, by name.
        labels: Number of rows a class (classification; at most 50 classes), empty for regression.
        identical: Whether both predict the same for every row; False without a champion.
        discordant: Rows only the candidate got right, rows only the champion got right; ``None`` for
            regression or without a champion.
        paired: The difference in the measure that the task compares; ``None`` without a champion, and where
            it cannot be told.
        unpaired: Why it cannot be told; empty otherwise.
        segments: The same difference among the rows of each segment (``site=north``), where it can be told.
        untold: Why it cannot be told of the other segments, by segment.
        guarded: The difference in each further measure of the task, where it can be told.
        unguarded: Why it cannot be told of the others, by measure.
    """

    rows: int
    candidate: Mapping[str, float | None]
    champion: Mapping[str, float | None] | None = None
    unknown: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)
    identical: bool = False
    discordant: tuple[int, int] | None = None
    paired: Paired | None = None
    unpaired: str = ""
    segments: Mapping[str, Paired] = field(default_factory=dict)
    untold: Mapping[str, str] = field(default_factory=dict)
    guarded: Mapping[str, Paired] = field(default_factory=dict)
    unguarded: Mapping[str, str] = field(default_factory=dict)


class Scorer(Protocol):
    """Computes measures; the only place that reads labels and predictions together."""

    def score(
        self,
        task: ScoringTask,
        snapshot: Snapshot,
        candidate: Predictions,
        champion: Predictions | None = None,
    ) -> Scores:
        """Score one version, or two on the same rows.

        A pure computation: repeating it gives the same numbers.

        Args:
            task: What to measure.
            snapshot: The labelled rows, in order.
            candidate: Predictions to judge.
            champion: Predictions to compare with; ``None`` to score one version alone.

        Returns:
            The measures. One that cannot be computed (one class only, no scores) is ``None`` with a reason.

        Raises:
            Permanent: Predictions and rows do not belong together (counts differ), a file is damaged
                (its digest differs), or the label is of the wrong type.
        """
        ...
