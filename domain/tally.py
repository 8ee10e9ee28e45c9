"""What a tick tells about itself: how the fleet stands, and the report that telemetry gets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime

from ..ports.agenda import Claim, shard_of
from ..ports.telemetry import EndedJob, TickReport
from .delivery import Delivered
from .jobs import JobStatus, RetrainingJob
from .sealing import Draft
from .state import ModelState
from .world import Tally


class Standing:
    """How many models stand badly now. Costs what changes, not what exists."""

    def __init__(self) -> None:
        self._unknown: Counter[str] = Counter()
        self._of: dict[str, frozenset[str]] = {}
        self._conflicts: set[str] = set()
        self._below_floor: set[str] = set()

    def note(self, state: ModelState) -> None:
        """Take in how a model stands now."""
        unknown = frozenset(name for name, said in state.verdicts.items() if said["answer"] == "unknown")
        self._replace(state.model, unknown)
        _keep(self._conflicts, state.model, state.conflict is not None)
        _keep(self._below_floor, state.model, state.below_floor is not None)

    def forget(self, model: str) -> None:
        """Leave a model out: another controller speaks for it from now on."""
        self._replace(model, frozenset())
        self._conflicts.discard(model)
        self._below_floor.discard(model)

    def _replace(self, model: str, unknown: frozenset[str]) -> None:
        self._unknown.subtract(self._of.pop(model, ()))
        self._unknown.update(unknown)
        if unknown:
            self._of[model] = unknown

    @property
    def unknown(self) -> Mapping[str, int]:
        """Models by trigger whose last verdict is unknown."""
        return {trigger: count for trigger, count in self._unknown.items() if count}

    @property
    def conflicts(self) -> int:
        """Models in conflict."""
        return len(self._conflicts)

    @property
    def below_floor(self) -> int:
        """Models whose champion was measured below the floor."""
        return len(self._below_floor)


def _keep(models: set[str], model: str, belongs: bool) -> None:
    if belongs:
        models.add(model)
    else:
        models.discard(model)


class LeaseWatch:
    """Counts the leases that another controller took. Those handed back are no loss.

    Args:
        holder: Who watches.
    """

    def __init__(self, holder: str) -> None:
        self._holder = holder
        self._held: frozenset[int] = frozenset()
        self._shards = 1
        self._lost = 0
        self.changed = False
        """Whether the last claim gave other shards than the one before."""

    def claimed(self, claim: Claim) -> None:
        """Note what a claim gave."""
        taken = {shard for shard, holder in claim.holders.items() if holder != self._holder}
        self._lost += len(self._held & taken)
        self.changed = frozenset(claim.leases) != self._held
        self._held, self._shards = frozenset(claim.leases), claim.shards

    def lost(self, model: str) -> None:
        """Note that a write about a model was refused, since the lease of its shard is another's."""
        shard = shard_of(model, self._shards)
        self._lost += shard in self._held
        self._held -= {shard}

    def taken(self) -> int:
        """How many were lost since the last call."""
        lost, self._lost = self._lost, 0
        return lost


def ended_jobs(after: ModelState, drafts: Iterable[Draft]) -> list[EndedJob]:
    """Jobs that entries have ended.

    Args:
        after: The state with these entries in it.
        drafts: The entries.
    """
    ended = [str(draft.data["job_id"]) for draft in drafts if draft.kind == "job.closed"]
    return [_ended(after.jobs[job_id]) for job_id in ended]


def _ended(job: RetrainingJob) -> EndedJob:
    completed = job.status is JobStatus.COMPLETED
    outcome = job.status.value if not completed else "deployed" if job.deployed else "not_deployed"
    seconds = _age(job.created_at, job.completed_at) if job.completed_at else 0.0
    return EndedJob(job.job_id, outcome, seconds)


def report_of(
    now: datetime,
    seconds: float,
    claim: Claim,
    tally: Tally,
    standing: Standing,
    leases: LeaseWatch,
    delivered: Delivered,
) -> TickReport:
    """Put together what a tick that has come to its end tells.

    Args:
        now: Time of the tick.
        seconds: How long it took.
        claim: What it was allowed to do, and what was due.
        tally: What it counted.
        standing: How the fleet stands after it; told by the holder of the lease alone.
        leases: What became of its leases.
        delivered: What became of its notices.
    """
    held, backlog = bool(claim.leases), delivered.backlog
    return TickReport(
        at=now,
        seconds=seconds,
        holds_lease=held,
        shards_held=len(claim.leases),
        lease_holder=", ".join(sorted(set(claim.holders.values()))),
        leases_lost=leases.taken(),
        looked=claim.due,
        lag_seconds=_age(claim.due_since, now),
        verdicts=tally.verdicts,
        events=tally.events,
        jobs=tuple(tally.jobs),
        errors=tally.errors,
        notices_sent=delivered.sent,
        notices_waiting=backlog.waiting,
        notices_dead=backlog.dead,
        notices_age_seconds=_age(backlog.oldest_waiting, now),
        metrics=tally.metrics,
        unknown=standing.unknown if held else {},
        conflicts=standing.conflicts if held else 0,
        below_floor=standing.below_floor if held else 0,
        next_due=claim.next_due,
    )


def _age(since: datetime | None, now: datetime) -> float:
    """Seconds since then; 0 without a time, and before a clock that was set back."""
    return max((now - since).total_seconds(), 0.0) if since else 0.0
