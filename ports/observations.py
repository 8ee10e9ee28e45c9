"""The rolling record of looks that changed nothing, for explanation and backtests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from .values import Json


@dataclass(frozen=True, slots=True)
class Look:
    """One look at an idle model.

    Attributes:
        model: Name of the model.
        at: When.
        data: Verdicts by trigger with their evidence, and the reason for suppression if any.
    """

    model: str
    at: datetime
    data: Json


class Observations(Protocol):
    """Keeps the latest looks of each model, up to a bound."""

    def record(self, looks: Sequence[Look]) -> None:
        """Keep looks. A second look of a model at the same time replaces the first.

        Best effort: losing the newest looks in a power failure is allowed, losing older ones is not.
        """
        ...

    def recent(self, model: str, after: datetime | None = None) -> Sequence[Look]:
        """Looks of a model with ``at > after``, oldest first; what fell out of the bound is not there."""
        ...
