"""What stands in rows and predictions beside their quality: leaks, and answers that nobody expects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from .data import Snapshot
from .predictor import Predictions


@dataclass(frozen=True, slots=True)
class InspectionTask:
    """What to look for.

    Attributes:
        kind: Whether labels are classes or numbers.
        group: Column of the snapshots that says which rows belong together; ``None`` for none.
        repeated: Whether to look for rows of the holdout among the training rows, which reads both.
    """

    kind: Literal["classification", "regression"]
    group: str | None = None
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Answered:
    """What the predictions of a version look like.

    Attributes:
        kind: ``text``, ``truth values``, ``whole numbers`` or ``numbers``.
        classes: Names of the classes that it gives scores for, sorted; empty where it gives none.
        low: Smallest prediction; ``None`` for text.
        high: Largest prediction; ``None`` for text.
        unfit_scores: Rows whose class scores are no probabilities: not between 0 and 1, or without the sum
            1; ``None`` where it gives none.
    """

    kind: str
    classes: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    unfit_scores: int | None = None


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found.

    Attributes:
        rows: Rows of the holdout.
        candidate: What the candidate's predictions look like.
        champion: What the champion's look like; ``None`` without one.
        strange: Rows for which the candidate predicts a class that no label of training or holdout has, by
            class (at most 50); empty for regression.
        labels: Smallest and largest label of training and holdout; ``None`` for classes.
        repeated: Rows of the holdout whose features and label a training row has, too, at whatever time;
            ``None`` when that was not asked.
        groups: Groups of the holdout, rows without one being a group; ``None`` when no group was named.
        shared: How many of them the training rows have, too; ``None`` likewise.
    """

    rows: int
    candidate: Answered
    champion: Answered | None = None
    strange: Mapping[str, int] = field(default_factory=dict)
    labels: tuple[float, float] | None = None
    repeated: int | None = None
    groups: int | None = None
    shared: int | None = None


class Inspector(Protocol):
    """Looks for what makes a comparison worthless, or a model unfit for those who call it."""

    def inspect(
        self,
        task: InspectionTask,
        training: Snapshot,
        holdout: Snapshot,
        candidate: Predictions,
        champion: Predictions | None = None,
    ) -> Inspection:
        """Look at the rows of a job and at what its versions predict.

        A pure computation: repeating it gives the same answer.

        Args:
            task: What to look for.
            training: The labelled rows that the candidate was trained on.
            holdout: The labelled rows that both versions are judged on.
            candidate: The candidate's predictions for the holdout.
            champion: The champion's; ``None`` without one.

        Returns:
            What was found.

        Raises:
            Temporary: Rows or predictions cannot be read now.
            Permanent: A file is gone or damaged, or has no column of that name.
        """
        ...
