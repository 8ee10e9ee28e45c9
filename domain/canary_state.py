"""A canary as the ledger tells it: its plan, the step it is at, and what was compared so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from ..ports.traffic import Split
from ..ports.values import TimeWindow
from .codec import time_of
from .sequential import Moments

_MOST_BATCHES = 100
"""Batches that are read in one look, after a time in which nobody looked."""


STUCK = "stuck"
"""Why a canary is held that is over, and whose split cannot be taken back."""


@dataclass(frozen=True, slots=True)
class CanaryStep:
    """A share of the traffic, and how long it is looked at.

    Attributes:
        weight: Share of the requests that the candidate gets, 0 to 1.
        minutes: Least time in force.
        samples: Least rows of either arm that were compared.
        shadow: Whether the candidate gets copies only, and nobody sees its answers.
    """

    weight: float
    minutes: float
    samples: int
    shadow: bool = False

    def __str__(self) -> str:
        share = f"{100 * self.weight:.4g} %"
        return f"{share} in the shadow" if self.shadow else share


@dataclass(frozen=True, slots=True)
class CanaryPlan:
    """How a canary is done; fixed when it begins, whatever becomes of the settings.

    Attributes:
        steps: What is gone through, in order; never empty.
        candidate: Name of the metric that measures the candidate's arm.
        baseline: Name of the metric that measures the champion's arm.
        direction: Which way both are better.
        tolerance: Largest mean difference that is no harm, in the metric's own units.
        alpha: Chance that harm is ever found where there is none.
        batch_minutes: Length of the windows over which both arms are compared.
        lag_minutes: How long rows take to be seen, after a change of the split and after a batch.
        deadline_minutes: Time to live of a step after its least time.
        on_deadline: What becomes of it then.
        proof: Whether a step must show that there is no harm.
        ratio_tolerance: Largest relative distance of the candidate's share of rows from its weight.
        ratio_alpha: Chance that true shares are ever called off.
    """

    steps: tuple[CanaryStep, ...]
    candidate: str
    baseline: str
    direction: Literal["up", "down"]
    tolerance: float
    alpha: float
    batch_minutes: float
    lag_minutes: float
    deadline_minutes: float
    on_deadline: Literal["abort", "hold"]
    proof: bool
    ratio_tolerance: float
    ratio_alpha: float

    @property
    def batch(self) -> timedelta:
        """Length of a batch."""
        return timedelta(minutes=self.batch_minutes)

    @property
    def lag(self) -> timedelta:
        """How long rows take to be seen."""
        return timedelta(minutes=self.lag_minutes)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a canary ends, once its split is cleared.

    Attributes:
        status: Final status of the job.
        reason: Why, in words.
        aborted: Whether the candidate does not serve because of it.
        at: When that was decided.
    """

    status: str
    reason: str
    aborted: bool
    at: datetime


@dataclass(frozen=True, slots=True)
class Canary:
    """A candidate that is tried on a share of the traffic.

    Attributes:
        plan: How it is done.
        split: What is to be in force.
        asked_at: When that was intended, or found changed by somebody else.
        before: What was in force before; ``None`` for nothing.
        number: Index of the step.
        since: When the split was first seen in force; ``None`` before.
        read_until: End of the last batch of this step; ``None`` before the first.
        counts: Rows of candidate and baseline in this step, whether their values were known or not.
        rows: Those whose values were compared.
        compared: By how much the candidate was worse, batch by batch, over all steps.
        within: The same in this step alone.
        interval: Where the mean over all steps is; ``None`` while nobody can say.
        unknown: Why the last batch could not be compared; empty when it was.
        held: Why the step does not end though its least time is over; empty when it is not held.
        conflict: What was in force against the ledger, in words; ``None`` when they agree.
        stopped_by: Who refused the candidate meanwhile; ``None`` when nobody did.
        stop_reason: Why, in their words.
        passed: Whether all steps were gone through.
        ending: How it ends; ``None`` as long as it goes on.
    """

    plan: CanaryPlan
    split: Split
    asked_at: datetime
    before: Split | None = None
    number: int = 0
    since: datetime | None = None
    read_until: datetime | None = None
    counts: tuple[int, int] = (0, 0)
    rows: tuple[int, int] = (0, 0)
    compared: Moments = field(default_factory=Moments)
    within: Moments = field(default_factory=Moments)
    interval: tuple[float, float] | None = None
    unknown: str = ""
    held: str = ""
    conflict: str | None = None
    stopped_by: str | None = None
    stop_reason: str = ""
    passed: bool = False
    ending: Ending | None = None

    @property
    def step(self) -> CanaryStep:
        """The step it is at."""
        return self.plan.steps[self.number]

    @property
    def least_until(self) -> datetime:
        """When the least time of the step is over."""
        return (self.since or self.asked_at) + timedelta(minutes=self.step.minutes)

    @property
    def deadline(self) -> datetime:
        """When the step has lived for too long."""
        return self.least_until + timedelta(minutes=self.plan.deadline_minutes)

    @property
    def next_batch(self) -> TimeWindow | None:
        """The batch that is read next; ``None`` before the split is in force."""
        if self.since is None:
            return None
        start = self.read_until or self.since + self.plan.lag
        return TimeWindow(start, start + self.plan.batch)

    def due_batches(self, now: datetime) -> tuple[TimeWindow, ...]:
        """Batches that are over, and whose rows have had time to be seen; oldest first, and not too many."""
        due: list[TimeWindow] = []
        batch = self.next_batch
        while batch is not None and batch.end + self.plan.lag <= now and len(due) < _MOST_BATCHES:
            due.append(batch)
            batch = TimeWindow(batch.end, batch.end + self.plan.batch)
        return tuple(due)


# -- what entries make of it --------------------------------------------------------------------------------


def begun(at: datetime, data: Mapping[str, Any]) -> Canary:
    """A canary whose first split was intended."""
    steps = tuple(CanaryStep(**step) for step in data["plan"]["steps"])
    return Canary(CanaryPlan(**{**data["plan"], "steps": steps}), Split(**data["split"]), at)


def stepped(canary: Canary, at: datetime, data: Mapping[str, Any]) -> Canary:
    """The next split was intended."""
    number, split = data["number"], Split(**data["split"])
    intended = replace(canary, split=split, asked_at=at, before=canary.split, number=number, since=None)
    return replace(_anew(intended), within=Moments())


def applied(canary: Canary, at: datetime, data: Mapping[str, Any]) -> Canary:
    """The split is in force; what was counted before it is not of it."""
    return replace(_anew(canary), since=at, conflict=None)


def _anew(canary: Canary) -> Canary:
    return replace(canary, read_until=None, counts=(0, 0), rows=(0, 0), unknown="", held="")


def compared(canary: Canary, at: datetime, data: Mapping[str, Any]) -> Canary:
    """A batch is over, and was compared unless it says why not."""
    canary = replace(canary, read_until=time_of(data["window"]["end"]), unknown=data["reason"])
    rows = (data["candidate"]["rows"], data["baseline"]["rows"])
    if None not in rows:
        canary = replace(canary, counts=_added(canary.counts, rows))
    if data["worse"] is None:
        return canary
    return replace(
        canary,
        rows=_added(canary.rows, rows),
        compared=canary.compared.after(data["worse"]),
        within=canary.within.after(data["worse"]),
        interval=tuple(data["interval"]) if data["interval"] else None,
    )


def _added(before: tuple[int, int], more: tuple[int, int]) -> tuple[int, int]:
    return before[0] + more[0], before[1] + more[1]


def held(canary: Canary, at: datetime, data: Mapping[str, Any]) -> Canary:
    """The step does not end though its least time is over, or goes on again."""
    return replace(canary, held=data["why"])


def moved(canary: Canary, at: datetime, data: Mapping[str, Any]) -> Canary:
    """Somebody else changed what is in force: what is counted from now on is not of the step."""
    return replace(canary, conflict=data["found"], asked_at=at, since=None)


def stopped(canary: Canary, actor: str, data: Mapping[str, Any]) -> Canary:
    """A person refused the candidate."""
    return replace(canary, stopped_by=actor, stop_reason=data["reason"])


def passed(canary: Canary, at: datetime, data: Mapping[str, Any]) -> Canary:
    """All steps were gone through."""
    return replace(canary, passed=True)


def ended(canary: Canary, at: datetime, data: Mapping[str, Any]) -> Canary:
    """It is over, and its split is to be cleared."""
    return replace(canary, ending=Ending(data["status"], data["reason"], data["aborted"], at))
