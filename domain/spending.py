"""Error spending: how sure a decision has to be, given how often a model was tried before.

Every try at a true null promotes with the probability of its level, whether the holdout is the same or fresh.
So a model has one error rate a quarter, and its n-th decision may use up ``alpha / (n (n + 1))`` of it: the
levels of a quarter add up to less than ``alpha``, and by Boole's inequality so does the chance that any of
its promotions is false, however the tries depend on one another.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

RULE = "alpha/(n(n+1)) by quarter"
"""Name of the rule, as decisions tell it."""


def quarter_of(at: datetime) -> str:
    """The calendar quarter of a time, in UTC, such as ``2026-Q1``."""
    at = at.astimezone(UTC)
    return f"{at.year}-Q{(at.month + 2) // 3}"


@dataclass(frozen=True, slots=True)
class Spending:
    """Decisions that have used up some of a model's error rate.

    Attributes:
        quarter: In which quarter; empty before the first.
        decisions: How many there were in it.
    """

    quarter: str = ""
    decisions: int = 0

    def number(self, now: datetime) -> int:
        """Which decision of its quarter one made now would be, from 1."""
        return self.decisions + 1 if self.quarter == quarter_of(now) else 1

    def level(self, alpha: float, now: datetime) -> float:
        """One-sided level of a decision made now.

        Args:
            alpha: Error rate of a quarter.
            now: When it is made.
        """
        number = self.number(now)
        return alpha / (number * (number + 1))

    def after(self, at: datetime) -> Spending:
        """With one more decision."""
        return Spending(quarter_of(at), self.number(at))
