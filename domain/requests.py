"""Requests of people: what may be asked now, and the entry that asks it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..ports.errors import JobAlreadyOpen, Refused, UnknownJob
from .idle import champion_label, job_id_for
from .jobs import JobStatus, RetrainingJob, is_same_person
from .rollback import rollback_target
from .sealing import Draft
from .state import ModelState


def ask_start(
    state: ModelState, actor: str, parameters: Mapping[str, Any], reason: str, supersede: bool = False
) -> Draft:
    """Ask for a retraining.

    Args:
        state: What the ledger knows.
        actor: Who asks.
        parameters: Training configuration.
        reason: Why, in their words.
        supersede: Whether a job that waits for a person gives way.

    Raises:
        JobAlreadyOpen: A job is open that does not give way, or one is asked for already.
    """
    if state.start is not None:
        raise JobAlreadyOpen(state.model, state.start.job_id)
    job = state.open_job
    if job is not None and not (supersede and job.waits_for_person):
        raise JobAlreadyOpen(state.model, job.job_id)
    job_id = job_id_for(state)
    data = {"job_id": job_id, "parameters": parameters, "reason": reason}
    return Draft("request.start", data, key=f"start:{job_id}", actor=actor)


def ask_approve(
    state: ModelState,
    job_id: str,
    actor: str,
    reason: str,
    min_improvement: float | None = None,
    override: bool = False,
) -> Draft:
    """Let a candidate serve, if floor and validation hold (and the improvement asked for is there).

    Raises:
        UnknownJob: There is no such job.
        Refused: It does not wait for a person, or was answered already; or an improvement is asked for, and
            the champion cannot be scored.
    """
    job = _waiting(state, job_id)
    if min_improvement is not None and job.validation is not None and job.validation.unscored:
        why = job.validation.unscored
        raise Refused(f"job {job_id}: no improvement can be shown ({why}); approve it without a minimum")
    if any(is_same_person(each.actor, actor) for each in job.approvals):
        raise Refused(
            f"{actor} approved job {job_id} already; it needs {job.approvals_needed} different people, so "
            "somebody else has to"
        )
    data = {"job_id": job.job_id, "reason": reason, "min_improvement": min_improvement, "override": override}
    return Draft("request.approve", data, key=_answer_key(job), actor=actor)


def ask_reject(state: ModelState, job_id: str, actor: str, reason: str) -> Draft:
    """Refuse a candidate that waits for a person, or that is tried on a share of the traffic.

    Raises:
        UnknownJob: There is no such job.
        Refused: It does not wait for a person, or was answered already.
    """
    data = {"job_id": job_id, "reason": reason}
    if _on_trial(job := _job(state, job_id)):
        if job.canary and job.canary.stopped_by:
            raise Refused(f"job {job_id} was rejected by {job.canary.stopped_by} already")
        return Draft("request.reject", data, key=f"stop:{job_id}", actor=actor)
    job = _waiting(state, job_id)
    return Draft("request.reject", data, key=_answer_key(job), actor=actor)


def ask_cancel(state: ModelState, job_id: str, actor: str, reason: str) -> Draft:
    """End a job before its outcome.

    Raises:
        UnknownJob: There is no such job.
        Refused: It has ended, its promotion has begun, or it is being cancelled already.
    """
    asked_for = state.start is not None and state.start.job_id == job_id
    if not asked_for:
        job = _job(state, job_id)
        if job.status.final:
            raise Refused(f"job {job_id} is {job.status.value}; there is nothing to cancel")
        if job.status is JobStatus.DEPLOYING and not _on_trial(job):
            raise Refused(f"job {job_id} is being deployed; let it end, then roll back")
        if job.cancelled_by:
            raise Refused(f"job {job_id} is being cancelled already (asked by {job.cancelled_by})")
    return Draft("request.cancel", {"job_id": job_id, "reason": reason}, key=f"cancel:{job_id}", actor=actor)


def ask_rollback(state: ModelState, actor: str, reason: str, to: str | None = None) -> Draft:
    """Go back to an earlier version.

    Raises:
        Refused: No such version served, it is quarantined, or a rollback goes on already.
    """
    if state.rollback is not None:
        raise Refused(f"a rollback of {state.model} goes on already (asked by {state.rollback.actor})")
    if rollback_target(state, to) is None:
        served = ", ".join(champion.version.version for champion in state.served) or "none"
        wanted = f"version {to}" if to else "an earlier version"
        raise Refused(
            f"{state.model} cannot go back to {wanted}: served before: {served}; "
            f"serving now: {champion_label(state.champion)}; withdrawn: {_listed(state)}"
        )
    return Draft("request.rollback", {"to": to, "reason": reason}, actor=actor)


def ask_adopt(state: ModelState, actor: str, reason: str) -> Draft:
    """Accept the champion alias as somebody else set it.

    Raises:
        Refused: Alias and ledger agree, or the alias points at no version.
    """
    if state.conflict is None:
        raise Refused(f"the champion of {state.model} is as the ledger says; there is nothing to adopt")
    if state.conflict == "none":
        raise Refused(
            f"the champion alias of {state.model} points at no version, so there is none to adopt; set it in "
            "the registry, or roll back to the last version that served"
        )
    data = {"what": "adopt", "version": state.conflict, "reason": reason}
    return Draft("request.override", data, actor=actor)


def ask_release(state: ModelState, version: str, actor: str, reason: str) -> Draft:
    """Let a withdrawn version come back into question.

    Raises:
        Refused: It is not quarantined.
    """
    if version not in state.quarantined.values():
        raise Refused(f"version {version} of {state.model} is not withdrawn; withdrawn: {_listed(state)}")
    return Draft("request.override", {"what": "release", "version": version, "reason": reason}, actor=actor)


def _listed(state: ModelState) -> str:
    return ", ".join(state.quarantined.values()) or "none"


def _job(state: ModelState, job_id: str) -> RetrainingJob:
    if job_id not in state.jobs:
        recent = " that has not ended long ago" if state.earlier_jobs else ""
        raise UnknownJob(f"{state.model} has no job {job_id}{recent}")
    return state.jobs[job_id]


def _answer_key(job: RetrainingJob) -> str:
    """The key of the next answer: of two at the same time, one is refused."""
    number = len(job.approvals) + 1
    return f"answer:{job.job_id}" if number == 1 else f"answer:{job.job_id}:{number}"


def _on_trial(job: RetrainingJob) -> bool:
    """Whether its candidate is tried on a share of the traffic, and can still be kept from all of it."""
    canary = job.canary
    return job.is_open and canary is not None and not canary.passed and canary.ending is None


def _waiting(state: ModelState, job_id: str) -> RetrainingJob:
    job = _job(state, job_id)
    if job.approval is not None:
        answer = "approved" if job.approval.approved else "rejected"
        raise Refused(f"job {job_id} was {answer} by {job.approval.actor} already")
    if job.awaiting_until is None:
        raise Refused(f"job {job_id} does not wait for a person: it is {job.status.value}")
    if state.start is not None:
        raise Refused(
            f"job {job_id} gives way to job {state.start.job_id}, which {state.start.actor} asked for"
        )
    return job
