"""A job in a line: how it stands, and its keys in a list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...domain.canary_words import canary_text
from .output import minute

if TYPE_CHECKING:
    from ...domain.jobs import RetrainingJob


def summary_of(job: RetrainingJob) -> dict[str, Any]:
    """The keys of a job in a list; the same for every job."""
    return {
        "job_id": job.job_id,
        "model": job.model_name,
        "trigger": job.trigger_type,
        "status": job.status,
        "created_at": job.created_at,
        "completed_at": job.completed_at,
        "candidate": job.candidate.version if job.candidate else None,
        "improvement": job.improvement_pct,
        "decision": job.decision.outcome if job.decision else None,
        "deployed": job.deployed,
        "awaiting_until": job.awaiting_until,
        "approvals": [approval.actor for approval in job.approvals],
        "approvals_needed": job.approvals_needed,
        "rolled_back_at": job.rolled_back_at,
        "reason": job.reason,
        "outcome": standing(job),
    }


def standing(job: RetrainingJob) -> str:
    """How a job ended, or what it waits for; empty while it simply goes on."""
    if not job.is_open:
        promoted = f"version {job.candidate.version} promoted: " if job.deployed and job.candidate else ""
        taken_back = f"; rolled back {minute(job.rolled_back_at)}" if job.rolled_back_at else ""
        return f"{promoted}{_verdict(job)}{job.outcome}{taken_back}"
    if job.cancelled_by:
        return f"being cancelled, asked by {job.cancelled_by}"
    if job.awaiting_until and job.approval is None:
        return f"waits for approval until {minute(job.awaiting_until)}{_approved(job)}"
    waits = f"waits: {job.stalled}" if job.stalled else ""
    return "; ".join(filter(None, (canary_text(job.canary) if job.canary else "", waits)))


def _verdict(job: RetrainingJob) -> str:
    """In a word what a decision against the candidate was, where its reason does not begin with it."""
    decision = job.decision
    if decision is None or job.deployed or job.outcome != decision.reason:
        return ""
    word = {"reject": "rejected", "inconclusive": "inconclusive"}.get(decision.outcome.value, "")
    return f"{word}: " if word and not job.outcome.startswith(word) else ""


def _approved(job: RetrainingJob) -> str:
    """How far it has come where more than one must approve; empty elsewhere."""
    if job.approvals_needed == 1:
        return ""
    who = " and ".join(approval.actor for approval in job.approvals)
    by = f" by {who}" if who else ""
    return f", {len(job.approvals)} of {job.approvals_needed} approved{by}"
