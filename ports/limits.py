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
        limit: How many units a period has.
    """

    scope: str
    period: str
    limit: int


class Limits(Protocol):
    """Says how many units are taken. They are taken and given back by appends alone (``Append.takes``)."""

    def used(self, units: Sequence[Unit]) -> Sequence[int]:
        """How many units of each scope and period are taken now, in the order of ``units``.

        Raises:
            Temporary: The store cannot be reached or is busy.
        """
        ...
