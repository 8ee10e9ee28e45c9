"""What the controller tells about its own work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

OUTCOMES = ("deployed", "not_deployed", "failed", "cancelled")
"""How a job can end."""


@dataclass(frozen=True, slots=True)
class EndedJob:
    """A job that came to its end.

    Attributes:
        job_id: Its identity.
        outcome: One of ``OUTCOMES``.
        seconds: From the trigger to its end, waiting for people included.
    """

    job_id: str
    outcome: str
    seconds: float


@dataclass(frozen=True, slots=True)
class TickReport:
    """One turn of the loop.

    Attributes:
        at: Time of the tick.
        seconds: How long it took, on the monotonic clock.
        holds_lease: Whether this controller may act.
        shards_held: Shards whose models this controller acts on.
        lease_holder: Who holds leases; empty when nobody said.
        leases_lost: Leases that another controller took from this one since its last report.
        looked: Models looked at.
        lag_seconds: How long the most overdue of them had been due; 0 when nothing was.
        verdicts: Count by (trigger, answer).
        events: Count by (model, kind) of the entries recorded.
        jobs: Jobs that ended.
        errors: Count by the part of the world that gave an error.
        notices_sent: Notices delivered.
        notices_waiting: Notices in the outbox that are still to be sent.
        notices_dead: Notices that were given up, and wait for a person.
        notices_age_seconds: How long the oldest waiting notice has waited; 0 when none does.
        metrics: Latest value by (model, metric) for looks that had one.
        unknown: Models by trigger whose last verdict is unknown; a trigger that is not named has none.
        conflicts: Models whose champion alias is not where the ledger says.
        below_floor: Models whose champion was measured below the floor.
        next_due: When the next model wants a look; ``None`` when there is none.
    """

    at: datetime
    seconds: float
    holds_lease: bool
    shards_held: int = 0
    lease_holder: str = ""
    leases_lost: int = 0
    looked: tuple[str, ...] = ()
    lag_seconds: float = 0.0
    verdicts: Mapping[tuple[str, str], int] = field(default_factory=dict)
    events: Mapping[tuple[str, str], int] = field(default_factory=dict)
    jobs: tuple[EndedJob, ...] = ()
    errors: Mapping[str, int] = field(default_factory=dict)
    notices_sent: int = 0
    notices_waiting: int = 0
    notices_dead: int = 0
    notices_age_seconds: float = 0.0
    metrics: Mapping[tuple[str, str], float] = field(default_factory=dict)
    unknown: Mapping[str, int] = field(default_factory=dict)
    conflicts: int = 0
    below_floor: int = 0
    next_due: datetime | None = None


class Telemetry(Protocol):
    """Receives the report of every tick."""

    def report(self, tick: TickReport) -> None:
        """Take a report. Must not raise and must not block."""
        ...
