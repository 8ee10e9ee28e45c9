"""Live metrics of models in production."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from .registry import ModelVersion
from .values import TimeWindow


@dataclass(frozen=True, slots=True)
class MetricQuery:
    """One question: the mean of a metric of one model over a window.

    Attributes:
        model: Name of the model.
        metric: Name of the measure: ``accuracy``, ``f1``, ``mae``, or any name the source knows.
        window: The span asked about.
        champion: The version that serves, for sources that score it themselves; ``None`` when unknown.
    """

    model: str
    metric: str
    window: TimeWindow
    champion: ModelVersion | None = None


@dataclass(frozen=True, slots=True)
class MetricWindow:
    """The answer to one query.

    Attributes:
        query: The question this answers.
        value: Mean over the window; ``None`` when there is no answer. Never NaN or infinite.
        reason: Why ``value`` is ``None``, in words; empty otherwise.
        points: Number of samples the source holds in the window (scrapes, or rows).
        rows: Number of labelled predictions behind the value; ``None`` when the source cannot tell.
        last_at: Time of the newest sample; ``None`` when there is none.
        empty: True when the source answered and holds nothing at all for the window. Only this may be
            read as zero, and only where the user said so; an unreachable or malformed source is not empty.
        pending: True when the answer is being computed and the same query should be put again soon.
    """

    query: MetricQuery
    value: float | None
    reason: str = ""
    points: int = 0
    rows: int | None = None
    last_at: datetime | None = None
    empty: bool = False
    pending: bool = False


class MetricSource(Protocol):
    """Reads windows of metrics for many models in one call."""

    def read(self, queries: Sequence[MetricQuery]) -> Sequence[MetricWindow]:
        """Answer every query.

        Reading changes nothing, and may be repeated. One model without an answer must not cost the others
        theirs: what is missing, NaN, infinite, ambiguous or malformed comes back as ``value=None`` with a
        reason, not as an exception.

        Args:
            queries: Any number of questions; windows may differ.

        Returns:
            One answer a query, in the same order.

        Raises:
            Temporary: The source as a whole cannot be reached.
            Permanent: The source as a whole refuses (credentials, a query it cannot parse).
        """
        ...
