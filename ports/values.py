"""Small values that several ports exchange."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

Json = Mapping[str, Any]
"""A JSON object: string keys; values are None, bool, int, float, str, lists and objects of the same."""


@dataclass(frozen=True, slots=True, order=True)
class TimeWindow:
    """A half-open span of time, ``start <= t < end``. Both ends are aware datetimes in UTC."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ValueError("a TimeWindow needs aware datetimes")
        if self.end < self.start:
            raise ValueError(f"a TimeWindow cannot end ({self.end}) before it starts ({self.start})")

    @property
    def length(self) -> timedelta:
        """Length of the window."""
        return self.end - self.start

    def overlaps(self, other: TimeWindow) -> bool:
        """Whether any moment lies in both windows."""
        return max(self.start, other.start) < min(self.end, other.end)


@dataclass(frozen=True, slots=True)
class Pending:
    """The answer is being computed; the same call later returns it.

    Attributes:
        reason: What is being waited for, in words.
    """

    reason: str
