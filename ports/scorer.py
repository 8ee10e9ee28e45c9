"""Measures of predictions against labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from .data import Snapshot
from .predictor import Predictions


@dataclass(frozen=True, slots=True)
class ScoringTask:
    """How a model is to be measured.

    Attributes:
        kind: Classification gives accuracy, precision, recall, f1 (and roc_auc, log_loss, brier with
            scores); regression gives mae, rmse, r2, mape.
        positive: The class that counts as positive, as text; ``None`` for the average below.
        average: How classes are averaged when no positive class is named.
    """

    kind: Literal["classification", "regression"]
    positive: str | None = None
    average: Literal["macro", "weighted", "micro"] = "macro"


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
    """

    rows: int
    candidate: Mapping[str, float | None]
    champion: Mapping[str, float | None] | None = None
    unknown: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)
    identical: bool = False
    discordant: tuple[int, int] | None = None


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
