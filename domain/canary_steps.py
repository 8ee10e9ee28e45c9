"""Steps of a canary: what is intended, recorded and then done, for each of them."""

from __future__ import annotations

from typing import Any

from ..ports.traffic import Split
from .canary_state import Canary, CanaryPlan
from .jobs import JobStatus, RetrainingJob
from .plan import ApplySplit, Plan
from .sealing import Draft


def first_step(job: RetrainingJob, plan: CanaryPlan, champion: str, before: tuple[Draft, ...]) -> Plan:
    """Intend the first split.

    Args:
        job: The job whose candidate is tried.
        plan: How.
        champion: Version that serves.
        before: What is recorded with it, and earlier.
    """
    split = _split(job, plan, 0, champion)
    data = {"plan": plan, "split": split}
    return Plan((*before, _intent(job, "canary.began", 0, data)), ApplySplit(split, None))


def next_step(job: RetrainingJob, canary: Canary) -> Plan:
    """Intend the split of the step after this one."""
    number = canary.number + 1
    split = _split(job, canary.plan, number, canary.split.champion)
    data = {"number": number, "split": split, "before": canary.split}
    return Plan((_intent(job, "canary.step", number, data),), ApplySplit(split, canary.split))


def ending(job: RetrainingJob, status: JobStatus, reason: str, **more: Any) -> Draft:
    """Say how a job with a canary ends; its split is cleared first.

    Args:
        job: The job.
        status: How it ends.
        reason: Why, in words.
        **more: ``aborted``, whether the candidate does not serve because of the canary, and ``withdraws``,
            whether it must not come back.
    """
    said = {"aborted": False, "withdraws": False, **more}
    return Draft("canary.ended", {"job_id": job.job_id, "status": status, "reason": reason, **said})


def _split(job: RetrainingJob, plan: CanaryPlan, number: int, champion: str) -> Split:
    """One salt for all steps, so that nobody who has the candidate loses it when the weight rises."""
    assert job.candidate is not None  # noqa: S101  (only a candidate is tried)
    step = plan.steps[number]
    label = job.candidate.version
    return Split(job.model_name, champion, label, step.weight, step.shadow, salt=job.job_id)


def _intent(job: RetrainingJob, kind: str, number: int, data: dict[str, Any]) -> Draft:
    return Draft(kind, {"job_id": job.job_id, **data}, key=f"canary:{job.job_id}:{number}")
