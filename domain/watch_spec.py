"""What a user says of the watch over promoted versions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ..ports.scorer import DIRECTIONS
from .sequential import fewest_samples
from .watch import OnUnknown


class WatchSpec(BaseModel):
    """How a version is watched after it was promoted, and when it is taken back.

    Attributes:
        days: So many days of the live metric are compared with the baseline; 0 watches nothing.
        metric: The live measure; ``None`` for the model's metric.
        baseline: What it is compared with: ``validated`` is the version's own value on its holdout,
            ``previous`` the version before, scored on the same rows (only where metrics are re-scored).
        tolerance: By how much worse it may be, as a fraction of the baseline; 0.02 is 2 %.
        alpha: Chance that a version within the tolerance is ever taken back.
        batch_days: Length of a batch, whose mean is one sample; rows within may depend on one another, rows
            of different batches should not.
        delay_hours: How long after its end a batch is read, for labels that come late.
        min_rows: Fewest rows of a batch, for sources that count them; with fewer it is unknown.
        deadline_days: The watch takes so many days at most, unknown batches included; ``None`` is twice
            ``days``.
        on_unknown: What follows where too many batches stay unknown until then: ``keep`` the version,
            ``page`` somebody (a critical notice), or ``rollback``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    days: float = Field(default=0.0, ge=0.0, le=365, allow_inf_nan=False)
    metric: str | None = None
    baseline: Literal["validated", "previous"] = "validated"
    tolerance: float = Field(default=0.02, ge=0.0, le=10.0, allow_inf_nan=False)
    alpha: float = Field(default=0.05, gt=0.0, lt=0.5)
    batch_days: float = Field(default=1.0, gt=0.0, le=30, allow_inf_nan=False)
    delay_hours: float = Field(default=0.0, ge=0.0, le=8760, allow_inf_nan=False)
    min_rows: int = Field(default=20, ge=1)
    deadline_days: float | None = Field(default=None, gt=0.0, le=3650, allow_inf_nan=False)
    on_unknown: OnUnknown = "page"

    @property
    def batches(self) -> int:
        """How many known batches complete a watch."""
        return math.ceil(self.days / self.batch_days - 1e-9)

    @property
    def deadline(self) -> timedelta:
        """How long a watch takes at most."""
        return timedelta(days=2 * self.days if self.deadline_days is None else self.deadline_days)

    def problems(self, metric: str, measures: Iterable[str] = DIRECTIONS) -> Iterator[tuple[str, str]]:
        """What stands against a watch: fields with what is wrong.

        Args:
            metric: The measure that is watched.
            measures: All that are computed on a holdout.
        """
        if not self.days:
            return
        if metric not in measures:
            known = ", ".join(measures)
            yield "watch.metric", f"{metric} is not computed on a holdout; there are {known}"
        if self.batches < (fewest := fewest_samples(self.alpha)):
            fix = (
                f"{self.batches} batches can never show harm at alpha {self.alpha:g}; watch {fewest} or more"
            )
            yield "watch.days", f"{fix} (days of at least {fewest * self.batch_days:g}, or shorter batches)"
        least = timedelta(days=self.batches * self.batch_days, hours=self.delay_hours)
        if self.deadline < least:
            yield "watch.deadline_days", f"all batches are known after {least / timedelta(days=1):g} days"
