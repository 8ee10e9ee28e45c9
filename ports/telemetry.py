"""What the controller tells about its own work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class TickReport:
    """One turn of the loop.

    Attributes:
        at: Time of the tick.
        seconds: How long it took, on the monotonic clock.
        holds_lease: Whether this controller may act.
        looked: Models looked at.
        verdicts: Count by (trigger, answer).
        events: Count by (model, kind) of the entries recorded.
        errors: Count by the part of the world that gave an error.
        notices_sent: Notices delivered.
        notices_waiting: Notices that failed and wait for their next try.
        metrics: Latest value by (model, metric) for looks that had one.
        next_due: When the next model wants a look; ``None`` when there is none.
    """

    at: datetime
    seconds: float
    holds_lease: bool
    looked: tuple[str, ...] = ()
    verdicts: Mapping[tuple[str, str], int] = field(default_factory=dict)
    events: Mapping[tuple[str, str], int] = field(default_factory=dict)
    errors: Mapping[str, int] = field(default_factory=dict)
    notices_sent: int = 0
    notices_waiting: int = 0
    metrics: Mapping[tuple[str, str], float] = field(default_factory=dict)
    next_due: datetime | None = None


class Telemetry(Protocol):
    """Receives the report of every tick."""

    def report(self, tick: TickReport) -> None:
        """Take a report. Must not raise and must not block."""
        ...
