"""The state of a model: all that its ledger stream says, as values. The fold makes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ..ports.registry import ModelVersion
from ..ports.traffic import Split
from .jobs import RetrainingJob
from .sealing import Head
from .spending import Spending
from .steadiness import Steadiness
from .watch import Watch


@dataclass(frozen=True, slots=True)
class Champion:
    """A version that serves, or served.

    Attributes:
        version: The version.
        since: When it began to serve; ``None`` when unknown (it was adopted).
        job_id: The job that promoted it; ``None`` when it was adopted.
    """

    version: ModelVersion
    since: datetime | None
    job_id: str | None


@dataclass(frozen=True, slots=True)
class StartRequest:
    """A person's request for a retraining."""

    job_id: str
    actor: str
    reason: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rollback:
    """A way back that was asked for.

    Attributes:
        actor: Who asked.
        reason: Why.
        to: Version asked for; ``None`` takes the last one that served before.
        target: Version it was decided to go back to; ``None`` before that was decided.
        expected: Version that the alias points at until it is moved; ``None`` for none.
        policy: SHA-256 of the settings under which that was decided; empty before, and where an older
            release decided.
        skipped: Why versions that served cannot serve any more, by version label, in the order of the tries.
        stalled: Why it waits for the registry; empty when it does not.
    """

    actor: str
    reason: str
    to: str | None
    target: ModelVersion | None = None
    expected: str | None = None
    policy: str = ""
    skipped: Mapping[str, str] = field(default_factory=dict)
    stalled: str = ""


@dataclass(frozen=True, slots=True)
class Misses:
    """Cron slots that got no job.

    Attributes:
        total: How many ever.
        count: How many in the last gap.
        first: The oldest of the last gap.
        last: The newest of it.
        policy: ``missed_slots`` as it was then.
    """

    total: int
    count: int
    first: datetime
    last: datetime
    policy: str


@dataclass(frozen=True, slots=True)
class BelowFloor:
    """The champion was measured below the floor.

    Attributes:
        since: When that was first seen.
        measure: The floor's measure.
        value: What was seen then.
        floor: The floor as it was then.
        source: ``live`` or ``holdout``; see ``floor_alarm``.
    """

    since: datetime
    measure: str
    value: float
    floor: float
    source: str


@dataclass(frozen=True, slots=True)
class ModelState:
    """All that the ledger knows of a model.

    Attributes:
        model: Name of the model.
        head: End of the stream.
        enrolled_at: When it was first watched; ``None`` before.
        champion: Who serves; ``None`` when nobody does.
        served: Champions before, oldest first.
        quarantined: Versions that were withdrawn, by artefact digest.
        withdrawn_at: Time of the last rollback; ``None`` when there was none.
        jobs: All jobs, oldest first; only the latest where the fold was told to keep no more.
        earlier_jobs: How many ended jobs before those are left out.
        start: A waiting request to start.
        rollback: A waiting or running rollback.
        adopt: Whether a person asked to accept the alias as it is.
        conflict: Version found on the alias against the ledger's; ``None`` when they agree.
        last_slot: Last cron slot that was answered by a job, or given up.
        missed: Cron slots that got no job; ``None`` when there were none.
        verdicts: Verdicts of the last changed look, by trigger: answer, reason, evidence.
        suppressed: Why the last changed look did nothing though its rule said yes; empty otherwise.
        suppressed_until: When that ends by itself; ``None`` when it does not, or an older entry did not say.
        steadiness: Since when the triggers say yes, and whether they flap.
        looked_at: Time of the last changed look.
        unknown_since: Since when each trigger is unknown.
        alarmed: Triggers whose lasting unknown was told.
        spending: Decisions that used up some of the quarter's error rate.
        below_floor: That the champion lies below the floor; ``None`` when that is not known.
        watch: The watch over the champion since it was promoted; ``None`` where there was none.
        stray: A split of a job that has ended, found in force; ``None`` when there is none.
    """

    model: str
    head: Head = field(default_factory=Head)
    enrolled_at: datetime | None = None
    champion: Champion | None = None
    served: tuple[Champion, ...] = ()
    quarantined: Mapping[str, str] = field(default_factory=dict)
    withdrawn_at: datetime | None = None
    jobs: dict[str, RetrainingJob] = field(default_factory=dict)
    start: StartRequest | None = None
    rollback: Rollback | None = None
    adopt: bool = False
    conflict: str | None = None
    last_slot: datetime | None = None
    missed: Misses | None = None
    verdicts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    suppressed: str = ""
    suppressed_until: datetime | None = None
    steadiness: Steadiness = field(default_factory=Steadiness)
    looked_at: datetime | None = None
    unknown_since: Mapping[str, datetime] = field(default_factory=dict)
    alarmed: frozenset[str] = frozenset()
    earlier_jobs: int = 0
    spending: Spending = field(default_factory=Spending)
    below_floor: BelowFloor | None = None
    watch: Watch | None = None
    stray: Split | None = None

    @property
    def open_job(self) -> RetrainingJob | None:
        """The job that can still move. There is at most one, and it is the one opened last."""
        job = self.last_job
        return job if job is not None and job.is_open else None

    @property
    def last_job(self) -> RetrainingJob | None:
        """The job opened last."""
        return self.jobs[next(reversed(self.jobs))] if self.jobs else None
