"""A canary: a candidate on a share of the traffic, compared with the champion on the rest at the same time.

Each look does the first of these that applies: end it (a person said so, or the champion is another one),
make sure of the split, report that somebody else changed it, take in batches that are over, abort (the arms
got other shares than intended, or harm is shown), go on to the next step, or hold until the deadline.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from ..ports.metrics import MetricWindow
from .canary_state import STUCK, Canary, compared
from .canary_steps import ending, next_step
from .canary_words import rows_text, worse_text
from .idle import champion_label
from .jobs import JobStatus, RetrainingJob
from .lifecycle import promotion_of
from .plan import POLL, RETRY, ApplySplit, ClearSplit, Plan, TrafficSeen, Trouble
from .sample_ratio import sample_ratio
from .sealing import Draft, plain
from .sequential import Harm, HarmTest
from .spec import ModelSpec
from .state import ModelState
from .strays import settle_stray

_LONGEST_RETRY = timedelta(minutes=5)
_RETRY_REFUSED = timedelta(minutes=1)
"""How soon to try again to take the traffic back from a router that refuses."""

_PATIENCE = timedelta(minutes=5)
"""For how long a router may be away, when the traffic is to be taken back, before people are told."""


def is_stopped(state: ModelState) -> str:
    """Why the canary of the open job is to end whatever is seen; empty when it may go on."""
    job, canary = _of(state)
    if job.cancelled_by:
        return f"cancelled by {_said(job.cancelled_by, job.cancel_reason)}"
    if canary.stopped_by:
        return f"rejected by {_said(canary.stopped_by, canary.stop_reason)}"
    if state.rollback is not None:
        return f"{state.rollback.actor} asked for a rollback"
    serving = champion_label(state.champion)
    if serving != canary.split.champion:
        return f"it was compared with version {canary.split.champion}, and would replace version {serving}"
    return ""


def decide_stopped(state: ModelState, why: str) -> Plan:
    """End it, whatever is seen."""
    job, _ = _of(state)
    status = JobStatus.CANCELLED if job.cancelled_by else JobStatus.COMPLETED
    return Plan((ending(job, status, why, aborted=True),))


def decide_canary(spec: ModelSpec, state: ModelState, seen: TrafficSeen, now: datetime) -> Plan:
    """Decide what follows from what the traffic is under, and from what both arms got."""
    job, canary = _of(state)
    if why := is_stopped(state):
        return decide_stopped(state, why)
    if seen.foreign or seen.split != canary.split or canary.since is None:
        return _settled(spec, state, seen, now)
    drafts, after = _taken_in(job, canary, seen)
    if why := _mismatch(after):
        return Plan((*drafts, ending(job, JobStatus.COMPLETED, why, aborted=True)))
    if why := _harm(after):
        return Plan((*drafts, ending(job, JobStatus.COMPLETED, why, aborted=True, withdraws=True)))
    if drafts:
        return Plan(drafts)  # look again with them known
    return _concluded(spec, state, seen, now)


def decide_traffic_trouble(state: ModelState, trouble: Trouble, now: datetime) -> Plan:
    """The router does not answer, or refuses: wait, and abort at the deadline; no split is left behind."""
    job, canary = _of(state)
    note: tuple[Draft, ...] = ()
    if job.stalled != trouble.reason:
        note = (Draft("job.stalled", {"job_id": job.job_id, "reason": trouble.reason}),)
    wait = timedelta(seconds=trouble.retry_after) if trouble.retry_after else RETRY
    if canary.ending is not None:
        stuck = not trouble.temporary or now - canary.ending.at >= _PATIENCE
        if stuck and canary.held != STUCK:
            text = f"in force is still {canary.split}, which is tried to be taken back: {trouble.reason}"
            note += (_held(job, STUCK, text),)
        return Plan(note, look_at=now + (wait if trouble.temporary else _RETRY_REFUSED))
    why = is_stopped(state)
    if not why and not trouble.temporary:
        why = f"the traffic router refuses: {trouble.reason}"
    if not why and now >= canary.deadline and canary.plan.on_deadline == "abort":
        why = f"{_step(canary)} did not come to an end in time: {trouble.reason}"
    return decide_stopped(state, why) if why else Plan(note, look_at=now + wait)


def decide_clearing(state: ModelState, seen: TrafficSeen) -> Plan:
    """It is over: take the traffic back, make sure of it, and close the job."""
    job, canary = _of(state)
    assert canary.ending is not None  # noqa: S101  (the phase says so)
    if seen.split is not None and seen.split in (canary.split, canary.before):
        return Plan((), ClearSplit(seen.split))
    left = seen.foreign or (str(seen.split) if seen.split else None)
    if left is None and not seen.sure:
        return Plan((), ClearSplit(canary.split))
    reason = canary.ending.reason
    conflict: tuple[Draft, ...] = ()
    if left is not None:
        reason += f"; somebody else shares the traffic ({left}), which was left as it is"
        conflict = _conflict(job, canary, left)
    cleared = Draft("canary.cleared", {"job_id": job.job_id, "left": left})
    data = {"job_id": job.job_id, "status": canary.ending.status, "reason": reason}
    return Plan((*conflict, cleared, Draft("job.closed", data, key=f"closed:{job.job_id}")))


# -- the split ----------------------------------------------------------------------------------------------


def _settled(spec: ModelSpec, state: ModelState, seen: TrafficSeen, now: datetime) -> Plan:
    """Put the step's split in force, make sure of it, or say that somebody else changed it."""
    job, canary = _of(state)
    waits = canary.since is None and canary.conflict is None
    if seen.split == canary.split and not seen.foreign:
        if seen.sure:
            steps = len(canary.plan.steps)
            data = {"job_id": job.job_id, "number": canary.number, "steps": steps, "split": canary.split}
            return Plan((Draft("canary.applied", data),))
        return Plan((), ApplySplit(canary.split, canary.split if canary.conflict else canary.before))
    if waits and seen.split == canary.before and not seen.foreign:
        return Plan((), ApplySplit(canary.split, canary.before))
    if waits and (stray := settle_stray(state, seen.split)) is not None:
        return stray
    if now >= canary.deadline:
        return _late(spec, state, f"somebody else shares the traffic: {seen.text}", now)
    return Plan(_conflict(job, canary, seen.text), look_at=_meanwhile(spec, now, canary.deadline))


def _conflict(job: RetrainingJob, canary: Canary, found: str) -> tuple[Draft, ...]:
    if canary.conflict == found:
        return ()
    data = {"job_id": job.job_id, "expected": str(canary.split), "found": found}
    return (Draft("canary.conflict", data),)


# -- what both arms got -------------------------------------------------------------------------------------


def _taken_in(job: RetrainingJob, canary: Canary, seen: TrafficSeen) -> tuple[tuple[Draft, ...], Canary]:
    """Entries of the batches that are over. The last one is waited for while it cannot be compared."""
    drafts: list[Draft] = []
    for number, (candidate, baseline) in enumerate(seen.batches, start=1):
        data = _batch(canary, candidate, baseline)
        if data["reason"] and number == len(seen.batches):
            break
        drafts.append(Draft("canary.batch", {"job_id": job.job_id, **data}))
        canary = compared(canary, canary.asked_at, plain(data))
    return tuple(drafts), canary


def _batch(canary: Canary, candidate: MetricWindow, baseline: MetricWindow) -> dict[str, Any]:
    reason = _unknown("candidate", candidate) or _unknown("champion", baseline)
    data = {
        "number": canary.number,
        "window": candidate.query.window,
        "candidate": {"value": candidate.value, "rows": candidate.rows},
        "baseline": {"value": baseline.value, "rows": baseline.rows},
        "reason": reason,
        "worse": None,
        "interval": canary.interval,
        "e_value": None,
    }
    if reason or candidate.value is None or baseline.value is None:
        return data
    worse = baseline.value - candidate.value
    worse = worse if canary.plan.direction == "up" else -worse
    reading = _test(canary).read(canary.compared.after(worse))
    return {**data, "worse": worse, "interval": reading.interval, "e_value": reading.e_value}


def _unknown(arm: str, seen: MetricWindow) -> str:
    if seen.value is None:
        return f"the {arm}'s {seen.query.metric} is unknown: {seen.reason or 'no value'}"
    if not seen.rows:
        counted = "there were no rows" if seen.rows == 0 else "the source does not count rows"
        return f"the {arm}'s {seen.query.metric} cannot be read: {counted}"
    return ""


def _test(canary: Canary) -> HarmTest:
    return HarmTest(canary.plan.tolerance, canary.plan.alpha)


def _harm(canary: Canary) -> str:
    """Whether harm is shown over all steps, or in this one alone, as one that comes with the load.

    Half of the error rate is for the first, and a part of the other half for each step.
    """
    plan = canary.plan
    half = plan.alpha / 2
    for seen, alpha in ((canary.compared, half), (canary.within, half / len(plan.steps))):
        reading = HarmTest(plan.tolerance, alpha).read(seen)
        if reading.harm is Harm.SHOWN:
            e_value = f"e-value {reading.e_value:.3g}, {1 / alpha:g} shows it"
            return f"harm is shown in {_step(canary)}: {worse_text(canary)}; {e_value}"
    return ""


def _mismatch(canary: Canary) -> str:
    """Whether the arms got other shares of the rows than intended, so that they cannot be compared.

    The share within the tolerance that fits best is what they are held against. Each of both sides, and each
    step, has a part of the error rate.
    """
    plan, weight = canary.plan, canary.step.weight
    got, rest = canary.counts
    if got + rest == 0:
        return ""
    meant = weight / (1 + weight) if canary.step.shadow else weight
    off = plan.ratio_tolerance
    share = min(max(got / (got + rest), meant * (1 - off)), meant * (1 + off), 0.9999)
    counts = {"candidate": got, "baseline": rest}
    alpha = plan.ratio_alpha / (2 * len(plan.steps))
    if not sample_ratio(counts, {"candidate": share, "baseline": 1 - share}, alpha).verdict.is_yes:
        return ""
    return (
        f"the comparison cannot be read: in {_step(canary)} the candidate got {got:,} of {got + rest:,} "
        f"rows, {got / (got + rest):.2%} where {meant:.2%} was meant"
    )


# -- the end of a step --------------------------------------------------------------------------------------


def _concluded(spec: ModelSpec, state: ModelState, seen: TrafficSeen, now: datetime) -> Plan:
    """Go on, hold, or wait until the least time is over."""
    job, canary = _of(state)
    if now < canary.least_until:
        return Plan(_resumed(job), look_at=_next_look(spec, canary, seen, now))
    kind, why = _lacking(state, canary, seen)
    if not kind:
        return _passed(state) if canary.number + 1 == len(canary.plan.steps) else next_step(job, canary)
    if now >= canary.deadline:
        return _late(spec, state, why, now)
    held = () if canary.held == kind else (_held(job, kind, f"{_step(canary)} is held: {why}"),)
    return Plan((*_resumed(job), *held), look_at=_next_look(spec, canary, seen, now))


def _lacking(state: ModelState, canary: Canary, seen: TrafficSeen) -> tuple[str, str]:
    """What a step lacks to end: a word that stays while it lasts, and why; both empty for nothing."""
    if state.conflict is not None:
        return "champion", "the champion alias is not where the ledger says"
    last = _batch(canary, *seen.batches[-1])["reason"] if seen.batches else ""
    if unknown := seen.unread or last or canary.unknown:
        return "unknown", unknown
    least = canary.step.samples
    if min(canary.rows) < least:
        return "samples", f"{rows_text(canary)} were compared, {least:,} are needed"
    if canary.plan.proof and _test(canary).read(canary.compared).harm is not Harm.EXCLUDED:
        return "proof", f"it is not shown yet that there is no harm: {worse_text(canary)}"
    if canary.compared.mean > canary.plan.tolerance:
        return "doubt", worse_text(canary)
    return "", ""


def _late(spec: ModelSpec, state: ModelState, why: str, now: datetime) -> Plan:
    """The deadline has passed: abort, or tell people and go on holding."""
    job, canary = _of(state)
    text = f"{_step(canary)} did not come to an end in time: {why}"
    if canary.plan.on_deadline == "abort":
        return Plan((ending(job, JobStatus.COMPLETED, text, aborted=True),))
    told = () if canary.held == "deadline" else (_held(job, "deadline", text),)
    return Plan(told, look_at=min(now + canary.plan.batch, now + _rest(spec)))


def _passed(state: ModelState) -> Plan:
    job, canary = _of(state)
    reason = f"all {len(canary.plan.steps)} steps were gone through: {worse_text(canary)}"
    done = Draft("canary.passed", {"job_id": job.job_id, "reason": reason})
    assert job.decision is not None  # noqa: S101  (nothing is tried that was not to be promoted)
    return promotion_of(state, job, job.decision, job.decision_policy, (done,))


def _held(job: RetrainingJob, kind: str, reason: str) -> Draft:
    return Draft("canary.held", {"job_id": job.job_id, "why": kind, "reason": reason})


def _resumed(job: RetrainingJob) -> tuple[Draft, ...]:
    return (Draft("job.stalled", {"job_id": job.job_id, "reason": ""}),) if job.stalled else ()


# -- when to look again -------------------------------------------------------------------------------------


def _rest(spec: ModelSpec) -> timedelta:
    return timedelta(seconds=spec.check_every_seconds)


def _meanwhile(spec: ModelSpec, now: datetime, until: datetime) -> datetime:
    return min(until, now + _rest(spec))


def _next_look(spec: ModelSpec, canary: Canary, seen: TrafficSeen, now: datetime) -> datetime:
    """The next batch, the end of the least time or of the deadline; sooner what could not be compared yet."""
    plan = canary.plan
    times = [now + _rest(spec), canary.least_until, canary.deadline]
    if canary.next_batch is not None:
        times.append(canary.next_batch.end + plan.lag)
    if seen.batches or seen.unread:
        times.append(now + max(POLL, min(plan.batch / 4, _LONGEST_RETRY)))
    return min((time for time in times if time > now), default=now + POLL)


# -- in words -----------------------------------------------------------------------------------------------


def _of(state: ModelState) -> tuple[RetrainingJob, Canary]:
    job = state.open_job
    assert job is not None and job.canary is not None  # noqa: S101, PT018  (the phase says so)
    return job, job.canary


def _step(canary: Canary) -> str:
    return f"step {canary.number + 1} of {len(canary.plan.steps)} ({canary.step})"


def _said(actor: str, reason: str) -> str:
    return f"{actor}: {reason}" if reason else actor
