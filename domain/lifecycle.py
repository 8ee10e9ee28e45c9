"""An open job: one pure step for each phase, from what was seen to what is recorded and done next."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from ..ports.compute import RunState
from ..ports.values import Pending
from .canary_steps import ending, first_step
from .checks import Evidence, Guardrail, guardrails_of
from .floor_alarm import floor_alarm, measured_on_holdout
from .idle import champion_label, conflict_with, settle_champion
from .jobs import JobStatus, RetrainingJob
from .judgement import judge, judge_approval, needs_person
from .plan import (
    POLL,
    RETRY,
    CancelRun,
    ChampionSeen,
    DataSeen,
    Plan,
    RunSeen,
    ScoresSeen,
    SetChampion,
    SubmitTraining,
    Trouble,
)
from .power import foresee
from .promotion import Decision, Outcome
from .sealing import CONTROLLER, Draft
from .spec import ModelSpec
from .state import ModelState
from .trigger_types import TriggerType
from .validation import validate
from .watching import watch_begun


def decide_trouble(state: ModelState, job: RetrainingJob, trouble: Trouble, now: datetime) -> Plan:
    """A part of the world did not answer: wait if that may help, else end the job with the reason."""
    if trouble.temporary:
        wait = timedelta(seconds=trouble.retry_after) if trouble.retry_after else RETRY
        note = () if job.stalled == trouble.reason else (_about(job, "job.stalled", reason=trouble.reason),)
        return Plan(note, look_at=now + wait)
    if job.status is JobStatus.DEPLOYING:
        return Plan((_end(job, JobStatus.FAILED, f"deployment failed: {trouble.reason}"),))
    return Plan((_closed(job, JobStatus.FAILED, trouble.reason),))


def decide_cancelled(job: RetrainingJob) -> Plan:
    """A person asked to cancel, and nothing runs that would have to end first."""
    who = f"{job.cancelled_by}: {job.cancel_reason}" if job.cancel_reason else job.cancelled_by
    return Plan((_closed(job, JobStatus.CANCELLED, f"cancelled by {who}"),))


def decide_data(
    spec: ModelSpec, state: ModelState, job: RetrainingJob, seen: DataSeen, now: datetime
) -> Plan:
    """Snapshots are there: say what the holdout can show, and intend the first training attempt."""
    for name, snapshot, least in (
        ("training", seen.training, 1),
        ("holdout", seen.holdout, spec.min_holdout_rows),
    ):
        if snapshot.rows < least:
            window = f"{snapshot.window.start:%Y-%m-%d %H:%M} to {snapshot.window.end:%Y-%m-%d %H:%M} UTC"
            text = f"the {name} window ({window}) has {snapshot.rows} labelled rows, {least} are needed"
            return Plan((_closed(job, JobStatus.FAILED, text),))
    power = foresee(spec, state, job, seen.holdout.rows, now)
    if power is not None and power["enough"] is False and _stops(spec, job):
        text = f'not trained: {power["text"]} (promotion.underpowered = "stop")'
        return Plan((_closed(job, JobStatus.FAILED, text),))
    said = {} if power is None else {"power": power}
    intent = _intend(job, 1, training=seen.training, holdout=seen.holdout, **said)
    return Plan((intent,), SubmitTraining(job.job_id))


def _stops(spec: ModelSpec, job: RetrainingJob) -> bool:
    """Whether a job that can show nothing is not worth its training; a person's own wish is."""
    return spec.promotion.underpowered == "stop" and job.trigger_type is not TriggerType.MANUAL


def decide_training(spec: ModelSpec, job: RetrainingJob, seen: RunSeen, now: datetime) -> Plan:
    """Follow the training run: submit what was only intended, wait, retry what was lost, take the result."""
    status = seen.status
    if job.cancelled_by:
        if status.state is RunState.ABSENT:
            return decide_cancelled(job)
        if status.state.ended:
            return Plan((_ended(job, seen), *decide_cancelled(job).drafts))
        return Plan((), CancelRun(job.run_key), now + POLL)
    match status.state:
        case RunState.ABSENT:
            return Plan((), SubmitTraining(job.job_id))
        case RunState.PENDING | RunState.RUNNING:
            return Plan(_resumed(job), look_at=now + POLL)
        case RunState.LOST if job.attempt < spec.training.max_attempts:
            again = _intend(job, job.attempt + 1, training=job.training, holdout=job.holdout)
            return Plan((_ended(job, seen), again), SubmitTraining(job.job_id))
        case RunState.LOST | RunState.FAILED:
            text = f"training {status.state.value}: {status.reason or f'exit status {status.exit_code}'}"
            text += _last_words(seen.log_tail)
            return Plan((_ended(job, seen), _closed(job, JobStatus.FAILED, text)))
    if seen.candidate is None:
        text = "the training command succeeded but logged no model to its MLflow run"
        return Plan((_ended(job, seen), _closed(job, JobStatus.FAILED, text)))
    found = _about(job, "candidate.found", key=f"candidate:{job.job_id}", version=seen.candidate)
    return Plan((_ended(job, seen), found))


def decide_validation(
    spec: ModelSpec, state: ModelState, job: RetrainingJob, seen: ScoresSeen, now: datetime
) -> Plan:
    """Scores are there: validate, and decide or wait for a person."""
    if isinstance(seen.scores, Pending):
        return Plan(_resumed(job), look_at=now + POLL)
    candidate, holdout = job.candidate, job.holdout
    assert candidate is not None and holdout is not None  # noqa: S101, PT018  (the phase comes after both)
    guardrails = _guardrails(spec, job, seen)
    result = validate(spec, candidate, holdout, seen.scores, now, guardrails, seen.unscored)
    validated = _about(
        job,
        "job.validated",
        validation=result,
        metric=spec.comparison,
        direction=spec.directions[spec.comparison],
    )
    alarm = floor_alarm(spec, state, measured_on_holdout(spec, state, job, result), now)
    decision = judge(spec, state, job, result)
    if decision.outcome is Outcome.PROMOTE and needs_person(spec, job, result):
        until = now + timedelta(days=spec.promotion.approval_days)
        awaited = _about(
            job,
            "approval.awaited",
            until=until,
            numbers=decision.numbers,
            reason=decision.reason,
            approvals=spec.promotion.approvals,
        )
        return Plan((validated, *alarm, awaited), look_at=_meanwhile(spec, now, until))
    return _carry_out(spec, state, job, decision, (validated, *alarm))


def _guardrails(spec: ModelSpec, job: RetrainingJob, seen: ScoresSeen) -> Mapping[str, Guardrail]:
    if isinstance(seen.scores, Pending) or seen.inspection is None:
        return {}
    known = Evidence(job, seen.scores, seen.inspection, seen.effort, seen.champion_effort)
    return guardrails_of(spec.promotion.guardrails, known)


def decide_approval(spec: ModelSpec, state: ModelState, job: RetrainingJob, now: datetime) -> Plan:
    """A person answered, or let the time pass."""
    candidate, result = job.candidate, job.validation
    assert candidate is not None and result is not None  # noqa: S101, PT018  (the phase comes after both)
    assert job.awaiting_until is not None  # noqa: S101  (so does this)
    if job.approval is not None:
        decision = judge_approval(spec, state, job, result, job.approval)
        return _carry_out(spec, state, job, decision, ())
    if state.start is not None:
        return Plan((superseded(job, state.start.job_id, f"{state.start.actor} asked for it"),))
    if now < job.awaiting_until:
        return Plan(look_at=_meanwhile(spec, now, job.awaiting_until))
    return Plan((_closed(job, JobStatus.COMPLETED, _expired(spec, job)),))


def superseded(job: RetrainingJob, by: str, why: str) -> Draft:
    """The end of a job that waited for a person, since a newer one takes its place."""
    return _closed(job, JobStatus.COMPLETED, f"superseded by job {by}: {why}")


def _expired(spec: ModelSpec, job: RetrainingJob) -> str:
    """Why a job that waited for people ends without them."""
    if not job.approvals:
        return f"nobody approved it within {spec.promotion.approval_days:g} days"
    who = ", ".join(each.actor for each in job.approvals)
    needed, days = job.approvals_needed, spec.promotion.approval_days
    return f"only {who} approved it within {days:g} days, {needed} people are needed"


def decide_deployment(spec: ModelSpec, state: ModelState, job: RetrainingJob, seen: ChampionSeen) -> Plan:
    """The alias was, or is about to be, moved: compare it with what was intended, and begin the watch."""
    candidate = job.candidate
    assert candidate is not None  # noqa: S101  (the phase comes after it)
    found = seen.champion.version if seen.champion else None
    expected = champion_label(state.champion)
    if found == candidate.version:
        account = _account(job, job.decision, expected, job.decision_policy)
        done = _about(job, "promotion.done", key=f"promoted:{job.job_id}", version=candidate, **account)
        text = job.decision.reason if job.decision else ""
        closed = _end(job, JobStatus.COMPLETED, text)
        return Plan((done, closed, *watch_begun(spec, state, job)))
    if found == expected:
        return Plan((), SetChampion(candidate, expected))
    text = f"deployment failed: somebody moved the champion from version {expected} to {found}"
    return Plan((*conflict_with(state, found), _end(job, JobStatus.FAILED, text)))


def decide_moved(spec: ModelSpec, state: ModelState, seen: ChampionSeen) -> Plan:
    """The alias was moved while a job is open: say so at once; the job goes on to its own decision."""
    return Plan(settle_champion(spec, state, seen.champion))


def _carry_out(
    spec: ModelSpec,
    state: ModelState,
    job: RetrainingJob,
    decision: Decision,
    before: tuple[Draft, ...],
) -> Plan:
    data: dict[str, Any] = {
        "outcome": decision.outcome,
        "rule": decision.rule,
        "reason": decision.reason,
        "numbers": decision.numbers,
        "policy": spec.digest,
    }
    decided = _about(job, "job.decided", key=f"decision:{job.job_id}", **data)
    if decision.outcome is not Outcome.PROMOTE:
        return Plan((*before, decided, _closed(job, JobStatus.COMPLETED, decision.reason)))
    serving = champion_label(state.champion)
    if spec.canary.steps and serving is not None:  # a first model has nobody to be compared with
        return first_step(job, spec.canary.plan, serving, (*before, decided))
    return promotion_of(state, job, decision, spec.digest, (*before, decided))


def promotion_of(
    state: ModelState, job: RetrainingJob, decision: Decision, policy: str, before: tuple[Draft, ...]
) -> Plan:
    """Intend to move the alias to a job's candidate.

    Args:
        state: What the ledger knows.
        job: The job.
        decision: Why.
        policy: SHA-256 of the settings under which that was decided.
        before: What is recorded with it, and earlier.
    """
    candidate, expected = job.candidate, champion_label(state.champion)
    assert candidate is not None  # noqa: S101  (nothing else is promoted)
    account = _account(job, decision, expected, policy)
    key = f"promotion:{job.job_id}"
    intent = _about(job, "promotion.intended", key=key, version=candidate, expected=expected, **account)
    return Plan((*before, intent), SetChampion(candidate, expected))


def _meanwhile(spec: ModelSpec, now: datetime, until: datetime) -> datetime:
    """While a person is waited for the alias is looked at as often as that of an idle model."""
    return min(until, now + timedelta(seconds=spec.check_every_seconds))


def _account(
    job: RetrainingJob, decision: Decision | None, before: str | None, policy: str
) -> dict[str, str | None]:
    """What every entry of a promotion answers for: who, why, instead of which version, under which policy."""
    return {
        "who": job.approval.actor if job.approval else CONTROLLER,
        "why": decision.reason if decision else "",
        "before": before,
        "policy": policy,
    }


def _about(job: RetrainingJob, kind: str, key: str | None = None, **data: Any) -> Draft:
    return Draft(kind, {"job_id": job.job_id, **data}, key)


def _resumed(job: RetrainingJob) -> tuple[Draft, ...]:
    """Say that what the job waited for is back; the job goes on, which may take hours."""
    return (_about(job, "job.stalled", reason=""),) if job.stalled else ()


def _last_words(log_tail: str) -> str:
    lines = log_tail.strip().splitlines()
    return f"; it printed last: {lines[-1].strip()[:300]}" if lines else ""


def _intend(job: RetrainingJob, attempt: int, **data: Any) -> Draft:
    return _about(job, "run.intended", key=f"run:{job.job_id}:{attempt}", attempt=attempt, **data)


def _ended(job: RetrainingJob, seen: RunSeen) -> Draft:
    status = seen.status
    return _about(
        job,
        "run.ended",
        attempt=job.attempt,
        state=status.state,
        reason=status.reason,
        exit_code=status.exit_code,
        seconds=status.seconds,
        nodes=status.nodes,
        cost=status.cost,
        log_tail=seen.log_tail,
    )


def _end(job: RetrainingJob, status: JobStatus, reason: str) -> Draft:
    """Close a job whose promotion was intended; after a canary its split is cleared first."""
    return _closed(job, status, reason) if job.canary is None else ending(job, status, reason)


def _closed(job: RetrainingJob, status: JobStatus, reason: str) -> Draft:
    return _about(job, "job.closed", key=f"closed:{job.job_id}", status=status, reason=reason)
