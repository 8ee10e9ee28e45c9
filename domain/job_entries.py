"""What entries do to a job, from the request for it to its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from . import canary_state
from .codec import decision_of, snapshot_of, time_of, validation_of, version_of, window_of
from .fold_step import Line, Step, moved_job, with_job
from .jobs import Approval, JobStatus, RetrainingJob, together
from .promotion import APPROVAL, Decision, Outcome, improvement, is_tested
from .state import ModelState, StartRequest
from .trigger_types import TriggerType


def _start(state: ModelState, line: Line) -> ModelState:
    data = line.data
    return replace(state, start=StartRequest(data["job_id"], line.actor, data["reason"], data["parameters"]))


def _approved(state: ModelState, line: Line) -> ModelState:
    data = line.data
    job = state.jobs[data["job_id"]]
    approval = Approval(True, line.actor, data["reason"], data["min_improvement"], data["override"])
    approvals = (*job.approvals, approval)
    enough = len(approvals) >= job.approvals_needed
    return with_job(state, line, approvals=approvals, approval=together(approvals) if enough else None)


def _rejected(state: ModelState, line: Line) -> ModelState:
    canary = state.jobs[line.data["job_id"]].canary
    if canary is not None:
        return with_job(state, line, canary=canary_state.stopped(canary, line.actor, line.data))
    return with_job(state, line, approval=Approval(False, line.actor, line.data["reason"]))


def _cancelled(state: ModelState, line: Line) -> ModelState:
    if line.data["job_id"] not in state.jobs:  # the job was asked for, and not opened yet
        return replace(state, start=None)
    return with_job(state, line, cancelled_by=line.actor, cancel_reason=line.data["reason"])


def _opened(state: ModelState, line: Line) -> ModelState:
    data = line.data
    champion = data["champion"]
    job = RetrainingJob(
        job_id=data["job_id"],
        model_name=state.model,
        trigger_type=TriggerType(data["trigger_type"]),
        status=JobStatus.PENDING,
        created_at=line.at,
        reason=data["reason"],
        training_window=window_of(data["training_window"]),
        holdout_window=window_of(data["holdout_window"]),
        parameters=data["parameters"],
        policy=data["policy"],
        evidence=data["evidence"],
        metrics_before=data["metrics_before"],
        champion=version_of(champion) if champion else None,
    )
    seen = {name: said for name, said in state.verdicts.items() if name != TriggerType.MANUAL.value}
    return replace(
        state,
        jobs={**state.jobs, job.job_id: job},
        verdicts=seen,  # a request that nobody could look at is no longer unknown
        start=None,
        steadiness=state.steadiness.from_now_on(),
    )


def _run_intended(state: ModelState, line: Line) -> ModelState:
    job = state.jobs[line.data["job_id"]]
    if job.status is JobStatus.PENDING:
        job = replace(
            job.with_status(JobStatus.RUNNING),
            started_at=line.at,
            training=snapshot_of(line.data["training"]),
            holdout=snapshot_of(line.data["holdout"]),
            power=line.data.get("power"),  # 0.2.0 did not write it
        )
    job = replace(job, attempt=line.data["attempt"], stalled="")
    return replace(state, jobs={**state.jobs, job.job_id: job})


def _run_ended(state: ModelState, line: Line) -> ModelState:
    cost = line.data.get("cost")  # 0.2.0 did not write it
    if cost is None:
        return state
    job = state.jobs[line.data["job_id"]]
    return with_job(state, line, cost=(job.cost or 0.0) + cost, priced_attempts=job.priced_attempts + 1)


def _candidate(state: ModelState, line: Line) -> ModelState:
    return moved_job(state, line, JobStatus.VALIDATION, candidate=version_of(line.data["version"]))


def _validated(state: ModelState, line: Line) -> ModelState:
    result = validation_of(line.data["validation"])
    metric, direction = line.data["metric"], line.data["direction"]
    new = result.metrics.get(metric)
    old = (result.champion_metrics or {}).get(metric)
    gain = None if new is None or old is None else improvement(new, old, direction)
    return with_job(
        state,
        line,
        validation=result,
        metrics_after=result.metrics,
        champion_metrics=result.champion_metrics,
        improvement_pct=gain,
        stalled="",
    )


def _awaited(state: ModelState, line: Line) -> ModelState:
    needed = line.data.get("approvals", 1)  # older releases knew no more
    until = time_of(line.data["until"])
    proposal = Decision(Outcome.PROMOTE, APPROVAL, line.data["reason"], line.data["numbers"])
    return with_job(
        state,
        line,
        awaiting_since=line.at,
        awaiting_until=until,
        approvals_needed=needed,
        proposal=proposal,
    )


def _decided(state: ModelState, line: Line) -> ModelState:
    decision, policy = decision_of(line.data), line.data["policy"]
    if is_tested(decision):
        state = replace(state, spending=state.spending.after(line.at))
    return with_job(state, line, decision=decision, decision_policy=policy, awaiting_until=None)


def _promoting(state: ModelState, line: Line) -> ModelState:
    if state.jobs[line.data["job_id"]].canary is not None:  # it is deploying since its canary began
        return with_job(state, line, stalled="")
    return moved_job(state, line, JobStatus.DEPLOYING)


def _stalled(state: ModelState, line: Line) -> ModelState:
    return with_job(state, line, stalled=line.data["reason"])


def _closed(state: ModelState, line: Line) -> ModelState:
    data = line.data
    return moved_job(
        state,
        line,
        JobStatus(data["status"]),
        completed_at=line.at,
        outcome=data["reason"],
        error_message=None if data["status"] == JobStatus.COMPLETED.value else data["reason"],
        awaiting_until=None,
    )


STEPS: Mapping[str, Step] = {
    "request.start": _start,
    "request.approve": _approved,
    "request.reject": _rejected,
    "request.cancel": _cancelled,
    "job.opened": _opened,
    "run.intended": _run_intended,
    "run.ended": _run_ended,
    "candidate.found": _candidate,
    "job.validated": _validated,
    "approval.awaited": _awaited,
    "job.decided": _decided,
    "promotion.intended": _promoting,
    "job.stalled": _stalled,
    "job.closed": _closed,
}
"""What each kind of entry does."""
