"""The job: one retraining from trigger to outcome, and the table its state moves along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from typing import Any

from ..ports.data import Snapshot
from ..ports.errors import Permanent
from ..ports.registry import ModelVersion
from ..ports.values import TimeWindow
from .canary_state import Canary
from .promotion import Decision
from .trigger_types import TriggerType
from .validation import ValidationResult


class JobStatus(Enum):
    """Where a job stands."""

    PENDING = "pending"
    RUNNING = "running"
    VALIDATION = "validation"
    DEPLOYING = "deploying"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether the job will not move any more."""
        return not TRANSITIONS[self]


TRANSITIONS: Mapping[JobStatus, frozenset[JobStatus]] = {
    JobStatus.PENDING: frozenset({JobStatus.RUNNING, JobStatus.FAILED, JobStatus.CANCELLED}),
    JobStatus.RUNNING: frozenset({JobStatus.VALIDATION, JobStatus.FAILED, JobStatus.CANCELLED}),
    JobStatus.VALIDATION: frozenset(
        {JobStatus.DEPLOYING, JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED}
    ),
    JobStatus.DEPLOYING: frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED}),
    JobStatus.COMPLETED: frozenset(),
    JobStatus.FAILED: frozenset(),
    JobStatus.CANCELLED: frozenset(),
}
"""The only moves there are. A final state is final."""


class IllegalTransition(Permanent):
    """An entry would move a job against the table; the ledger is damaged or this program is wrong."""


@dataclass(frozen=True, slots=True)
class Approval:
    """A person's answer to a job that waits for one.

    Attributes:
        approved: Whether the candidate may serve.
        actor: Who answered.
        reason: Why, in their words.
        min_improvement: Relative improvement they ask for on top; ``None`` when they decided by themselves.
        override: Whether they let a version back that the rules keep out.
    """

    approved: bool
    actor: str
    reason: str
    min_improvement: float | None = None
    override: bool = False


def together(approvals: Sequence[Approval]) -> Approval:
    """What several people's approvals come to: the strictest minimum, and an override only if all want it.

    Args:
        approvals: One each, at least one.
    """
    least = [each.min_improvement for each in approvals if each.min_improvement is not None]
    return Approval(
        approved=True,
        actor=" and ".join(each.actor for each in approvals),
        reason="; ".join(each.reason for each in approvals if each.reason),
        min_improvement=max(least, default=None),
        override=all(each.override for each in approvals),
    )


def is_same_person(one: str, other: str) -> bool:
    """Whether two names are taken for one person's: letters' case and spaces around tell nobody apart."""
    return one.strip().casefold() == other.strip().casefold()


@dataclass(frozen=True, slots=True)
class RetrainingJob:
    """One retraining, as the ledger tells it.

    Attributes:
        job_id: Unique identity (UUID).
        model_name: Name of the model.
        trigger_type: What proposed it.
        status: Where it stands.
        created_at: When it was opened.
        reason: Why it was opened, in words.
        training_window: Rows the candidate is trained on.
        holdout_window: Rows both versions are judged on.
        parameters: Training configuration.
        policy: SHA-256 of the model's settings under which it was opened.
        evidence: The trigger's numbers.
        metrics_before: The champion's live metrics when the trigger fired; empty when unknown.
        metrics_after: The candidate's metrics on the holdout; ``None`` before validation.
        champion_metrics: The champion's metrics on the same rows; ``None`` without one.
        improvement_pct: Relative improvement over the champion as a fraction (0.05 is 5 %); ``None`` when
            it is not known or not defined.
        deployed: Whether the candidate was promoted.
        started_at: When its training was first submitted.
        completed_at: When it ended, however it ended.
        deployed_at: When the candidate began to serve.
        rolled_back_at: When it was taken back; ``None`` as long as it was not.
        error_message: Why it failed or was cancelled; ``None`` otherwise.
        outcome: One sentence on how it ended; empty while it is open.
        champion: Version it is judged against; ``None`` when there was no champion.
        training: Snapshot the training got; ``None`` before it was taken.
        holdout: Snapshot both versions are judged on; ``None`` before it was taken.
        power: What its holdout can show, as far as that was known before its training (see ``power``);
            ``None`` when nothing was said.
        attempt: Number of the training attempt; 0 before the first.
        cost: What its training attempts that ended have cost; ``None`` when nobody set a price.
        priced_attempts: How many of them these are.
        candidate: The version it produced; ``None`` before it is known.
        validation: Its validation; ``None`` before.
        proposal: What was put before people, with its numbers; ``None`` where nobody was asked.
        decision: What was decided and why; ``None`` before.
        decision_policy: SHA-256 of the settings under which that was decided; empty before.
        awaiting_since: When it began to wait for a person; ``None`` when it never did.
        awaiting_until: Until when it waits for a person; ``None`` when it does not wait.
        approvals_needed: How many different people must approve.
        approvals: Who has approved so far, in order.
        approval: What the people answered together; ``None`` before one rejected, or enough approved.
        cancelled_by: Who asked to cancel it; ``None`` when nobody did.
        cancel_reason: Why, in their words.
        stalled: What it waits for when a part of the world is away; empty otherwise.
        canary: The trial of its candidate on a share of the traffic; ``None`` when there was none.
    """

    job_id: str
    model_name: str
    trigger_type: TriggerType
    status: JobStatus
    created_at: datetime
    reason: str
    training_window: TimeWindow
    holdout_window: TimeWindow
    parameters: Mapping[str, Any] = field(default_factory=dict)
    policy: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    metrics_before: Mapping[str, float] = field(default_factory=dict)
    metrics_after: Mapping[str, float | None] | None = None
    champion_metrics: Mapping[str, float | None] | None = None
    improvement_pct: float | None = None
    deployed: bool = False
    started_at: datetime | None = None
    completed_at: datetime | None = None
    deployed_at: datetime | None = None
    rolled_back_at: datetime | None = None
    error_message: str | None = None
    outcome: str = ""
    champion: ModelVersion | None = None
    training: Snapshot | None = None
    holdout: Snapshot | None = None
    power: Mapping[str, Any] | None = None
    attempt: int = 0
    cost: float | None = None
    priced_attempts: int = 0
    candidate: ModelVersion | None = None
    validation: ValidationResult | None = None
    proposal: Decision | None = None
    decision: Decision | None = None
    decision_policy: str = ""
    awaiting_since: datetime | None = None
    awaiting_until: datetime | None = None
    approvals_needed: int = 1
    approvals: tuple[Approval, ...] = ()
    approval: Approval | None = None
    cancelled_by: str | None = None
    cancel_reason: str = ""
    stalled: str = ""
    canary: Canary | None = None

    @property
    def is_open(self) -> bool:
        """Whether the job can still move."""
        return not self.status.final

    @property
    def waits_for_person(self) -> bool:
        """Whether it waits, and nobody has ended the waiting."""
        return self.awaiting_until is not None and self.approval is None and self.cancelled_by is None

    @property
    def run_key(self) -> str:
        """Key of the current training attempt on the compute backend."""
        return f"{self.job_id}/train/{self.attempt}"

    def with_status(self, status: JobStatus) -> RetrainingJob:
        """Move along the table.

        Raises:
            IllegalTransition: The table has no such move.
        """
        if status not in TRANSITIONS[self.status]:
            raise IllegalTransition(f"job {self.job_id} cannot go from {self.status.value} to {status.value}")
        return replace(self, status=status, stalled="")
