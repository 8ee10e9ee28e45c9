"""Limits across models: budgets and concurrency, counted in units that no two processes can both have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit of what is limited.

    Attributes:
        scope: What is limited (``jobs of the fleet``); shown to people when none is left.
        period: The period that it counts in (``2026-01-31``), spent for good; empty for what is in use, and
            given back afterwards.
        limit: How much a period has: what is wanted is given while less than that is taken, so that the last
            one may go beyond it where ``amount`` is above 1. ``None``: it is counted, and never refused.
        amount: How much of the limit it takes.
    """

    scope: str
    period: str
    limit: int | None
    amount: int = 1


class Limits(Protocol):
    """Says how much is taken. Units are taken, settled and given back by appends alone (``Append``)."""

    def used(self, units: Sequence[Unit]) -> Sequence[int]:
        """How much of each scope and period is taken now, in the order of ``units``.

        Raises:
            Temporary: The store cannot be reached or is busy.
        """
        ...
