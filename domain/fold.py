"""The fold: the state of a model is its stream, read. So the audit trail cannot differ from what happened.

Entries hold facts, never instructions. Kinds, with what their data says:

    model.enrolled        the model is watched from now on
    champion.adopted      a version that somebody else let serve is taken as the champion
    champion.conflict     the alias points elsewhere than the ledger says
    champion.restored     it points where the ledger says again
    champion.below_floor  the champion was measured below the floor
    champion.above_floor  and is so no more
    look.changed          verdicts of the triggers, or the reason for doing nothing, are others than before
    slots.missed          cron slots that get no job: how many, which, by what policy
    unknown.lasting       a trigger has been unknown for so long that somebody should know
    request.*             a person's act: start, approve, reject, cancel, rollback, override
    job.opened            a retraining begins: trigger, evidence, windows, policy
    run.intended          snapshots are taken; a training attempt is about to be submitted
    run.ended             how that attempt ended
    candidate.found       the version it produced
    job.validated         both versions' measures on the holdout
    approval.awaited      the candidate waits for a person
    job.decided           promote, reject or inconclusive, with rule and numbers
    promotion.intended    the alias is about to be moved
    promotion.done        the alias points at the candidate
    job.stalled           a part of the world is away and the job waits; without a reason, that it is back
    job.closed            the end of a job
    canary.began          a candidate is about to get its first share of the traffic: the whole plan
    canary.step           it is about to get its next share
    canary.applied        that share is in force, from now on
    canary.batch          what both arms got over one window, or why they cannot be compared
    canary.held           a step does not end though its least time is over
    canary.conflict       somebody else changed how the traffic is shared
    canary.passed         all steps were gone through
    canary.ended          its split is about to be taken back: how the job ends then, and why
    canary.cleared        it is taken back, or what somebody else left in its place
    split.stray           a split of a job that has ended is in force, and about to be taken back
    split.cleared         it is
    rollback.intended     the alias is about to be moved back
    rollback.stalled      the registry is away and the rollback waits
    rollback.skipped      the version to go back to cannot serve any more; the next one before it is taken
    rollback.done         it points at the earlier version; the withdrawn one is quarantined
    rollback.failed       it could not be moved back
    watch.begun           the live metric of a promoted version is compared from now on; the terms
    watch.batch           one batch of it is known, and what all of them show
    watch.missed          one batch stayed unknown, and why
    watch.ended           harm, kept, unknown or stopped; any other champion ends a watch, too

Each of promotion.intended, promotion.done, rollback.intended and rollback.done says ``who`` decided it (a
person, or the controller by its policy), ``why``, which version served ``before``, and the ``policy``: the
digest of the settings under which it was decided. Version 0.1.0 did not write all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any

from ..ports.errors import Permanent
from ..ports.ledger import ENTRY_VERSION, Entry
from ..ports.traffic import Split
from . import canary_state
from .canary_state import Canary
from .codec import decision_of, snapshot_of, terms_of, time_of, validation_of, version_of, window_of
from .jobs import Approval, JobStatus, RetrainingJob, together
from .promotion import APPROVAL, Decision, Outcome, improvement, is_tested
from .sealing import Head, load
from .state import BelowFloor, Champion, Misses, ModelState, Rollback, StartRequest
from .trigger_types import TriggerType
from .watch import Watch

SLOT_KEY = "slot:"
"""Entries that settle a cron slot are keyed by it: ``slot:2026-03-01T00:00:00+00:00``."""

RECENT_JOBS = 5
"""Jobs of a model that a process which runs for months remembers; the ledger knows the others."""


def fold(
    model: str,
    entries: Iterable[Entry],
    state: ModelState | None = None,
    *,
    keep_jobs: int | None = None,
) -> ModelState:
    """Add entries to a state.

    Args:
        model: Name of the model.
        entries: Entries that follow the state's head, in order.
        state: What was folded before; ``None`` starts at the beginning of the stream.
        keep_jobs: Leave out ended jobs but for so many of the latest, at least one; ``None`` keeps all. No
            entry speaks of an ended job again but a rollback, which does without it.

    Returns:
        The state after the last entry.

    Raises:
        Permanent: An entry is of a newer version or kind than this program knows.
        IllegalTransition: An entry would move a job against the table.
    """
    state = state or ModelState(model)
    for entry in entries:
        state = _apply(state, entry)
        if keep_jobs is not None and len(state.jobs) > keep_jobs:
            state = _without_oldest(state, len(state.jobs) - keep_jobs)
    return state


def _without_oldest(state: ModelState, count: int) -> ModelState:
    """Leave out the oldest jobs. The open one is the latest, so it stays."""
    kept = dict(islice(state.jobs.items(), count, None))
    return replace(state, jobs=kept, earlier_jobs=state.earlier_jobs + count)


@dataclass(frozen=True, slots=True)
class _Line:
    """An entry with its text read."""

    at: datetime
    actor: str
    data: Mapping[str, Any]


def _apply(state: ModelState, entry: Entry) -> ModelState:
    step = _STEPS.get(entry.kind)
    if step is None or entry.v > ENTRY_VERSION:
        raise Permanent(
            f"{state.model}: entry {entry.seq} ({entry.kind}, version {entry.v}) is newer than this program; "
            "upgrade autoretrain"
        )
    state = replace(
        state, head=Head(entry.chain, entry.seq, entry.hash), last_slot=_last_slot(state.last_slot, entry.key)
    )
    return step(state, _Line(time_of(entry.at), entry.actor, load(entry.data)))


def _last_slot(known: datetime | None, key: str | None) -> datetime | None:
    """The slot that a key names. Keys of a stream are unique, and slots are settled in the order of time."""
    named = key is not None and key.startswith(SLOT_KEY)
    return datetime.fromisoformat(key.removeprefix(SLOT_KEY)) if key and named else known


def _with_job(state: ModelState, line: _Line, **changes: Any) -> ModelState:
    job = replace(state.jobs[line.data["job_id"]], **changes)
    return replace(state, jobs={**state.jobs, job.job_id: job})


def _moved(state: ModelState, line: _Line, status: JobStatus, **changes: Any) -> ModelState:
    job = replace(state.jobs[line.data["job_id"]].with_status(status), **changes)
    return replace(state, jobs={**state.jobs, job.job_id: job})


def _enrolled(state: ModelState, line: _Line) -> ModelState:
    return replace(state, enrolled_at=line.at)


def _serving(state: ModelState, champion: Champion) -> ModelState:
    served = state.served if state.champion is None else (*state.served, state.champion)
    return replace(state, champion=champion, served=served, conflict=None, below_floor=None, watch=None)


def _adopted(state: ModelState, line: _Line) -> ModelState:
    version = version_of(line.data["version"])
    return replace(_serving(state, Champion(version, None, None)), adopt=False)


def _conflict(state: ModelState, line: _Line) -> ModelState:
    return replace(state, conflict=line.data["found"] or "none", adopt=False)


def _restored(state: ModelState, line: _Line) -> ModelState:
    return replace(state, conflict=None, adopt=False)


def _below_floor(state: ModelState, line: _Line) -> ModelState:
    said = {name: line.data[name] for name in ("measure", "value", "floor", "source")}
    return replace(state, below_floor=BelowFloor(line.at, **said))


def _above_floor(state: ModelState, line: _Line) -> ModelState:
    return replace(state, below_floor=None)


def _looked(state: ModelState, line: _Line) -> ModelState:
    data = line.data
    answer, until, flapping = data.get("answer", ""), data.get("until"), data.get("flapping", False)  # 0.1.0
    unknown = [name for name, verdict in data["verdicts"].items() if verdict["answer"] == "unknown"]
    return replace(
        state,
        verdicts=data["verdicts"],
        suppressed=data["suppressed"],
        suppressed_until=time_of(until) if until else None,
        steadiness=state.steadiness.after(line.at, answer, data["suppressed"], flapping),
        looked_at=line.at,
        unknown_since={name: state.unknown_since.get(name, line.at) for name in unknown},
        alarmed=state.alarmed & frozenset(unknown),
    )


def _missed(state: ModelState, line: _Line) -> ModelState:
    data = line.data
    total = (state.missed.total if state.missed else 0) + data["count"]
    first, last = time_of(data["first"]), time_of(data["last"])
    missed = Misses(total, data["count"], first, last, data["policy"])
    return replace(state, missed=missed)


def _alarmed(state: ModelState, line: _Line) -> ModelState:
    return replace(state, alarmed=state.alarmed | {line.data["trigger"]})


def _start(state: ModelState, line: _Line) -> ModelState:
    data = line.data
    return replace(state, start=StartRequest(data["job_id"], line.actor, data["reason"], data["parameters"]))


def _approved(state: ModelState, line: _Line) -> ModelState:
    data = line.data
    job = state.jobs[data["job_id"]]
    approval = Approval(True, line.actor, data["reason"], data["min_improvement"], data["override"])
    approvals = (*job.approvals, approval)
    enough = len(approvals) >= job.approvals_needed
    return _with_job(state, line, approvals=approvals, approval=together(approvals) if enough else None)


def _rejected(state: ModelState, line: _Line) -> ModelState:
    canary = state.jobs[line.data["job_id"]].canary
    if canary is not None:
        return _with_job(state, line, canary=canary_state.stopped(canary, line.actor, line.data))
    return _with_job(state, line, approval=Approval(False, line.actor, line.data["reason"]))


def _cancelled(state: ModelState, line: _Line) -> ModelState:
    if line.data["job_id"] not in state.jobs:  # the job was asked for, and not opened yet
        return replace(state, start=None)
    return _with_job(state, line, cancelled_by=line.actor, cancel_reason=line.data["reason"])


def _rollback_asked(state: ModelState, line: _Line) -> ModelState:
    return replace(state, rollback=Rollback(line.actor, line.data["reason"], line.data["to"]))


def _override(state: ModelState, line: _Line) -> ModelState:
    if line.data["what"] == "adopt":
        return replace(state, adopt=True)
    kept = {digest: label for digest, label in state.quarantined.items() if label != line.data["version"]}
    return replace(state, quarantined=kept)


def _opened(state: ModelState, line: _Line) -> ModelState:
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


def _run_intended(state: ModelState, line: _Line) -> ModelState:
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


def _run_ended(state: ModelState, line: _Line) -> ModelState:
    cost = line.data.get("cost")  # 0.2.0 did not write it
    if cost is None:
        return state
    job = state.jobs[line.data["job_id"]]
    return _with_job(state, line, cost=(job.cost or 0.0) + cost, priced_attempts=job.priced_attempts + 1)


def _candidate(state: ModelState, line: _Line) -> ModelState:
    return _moved(state, line, JobStatus.VALIDATION, candidate=version_of(line.data["version"]))


def _validated(state: ModelState, line: _Line) -> ModelState:
    result = validation_of(line.data["validation"])
    metric, direction = line.data["metric"], line.data["direction"]
    new = result.metrics.get(metric)
    old = (result.champion_metrics or {}).get(metric)
    gain = None if new is None or old is None else improvement(new, old, direction)
    return _with_job(
        state,
        line,
        validation=result,
        metrics_after=result.metrics,
        champion_metrics=result.champion_metrics,
        improvement_pct=gain,
        stalled="",
    )


def _awaited(state: ModelState, line: _Line) -> ModelState:
    needed = line.data.get("approvals", 1)  # older releases knew no more
    until = time_of(line.data["until"])
    proposal = Decision(Outcome.PROMOTE, APPROVAL, line.data["reason"], line.data["numbers"])
    return _with_job(
        state,
        line,
        awaiting_since=line.at,
        awaiting_until=until,
        approvals_needed=needed,
        proposal=proposal,
    )


def _decided(state: ModelState, line: _Line) -> ModelState:
    decision, policy = decision_of(line.data), line.data["policy"]
    if is_tested(decision):
        state = replace(state, spending=state.spending.after(line.at))
    return _with_job(state, line, decision=decision, decision_policy=policy, awaiting_until=None)


def _promoting(state: ModelState, line: _Line) -> ModelState:
    if state.jobs[line.data["job_id"]].canary is not None:  # it is deploying since its canary began
        return _with_job(state, line, stalled="")
    return _moved(state, line, JobStatus.DEPLOYING)


def _promoted(state: ModelState, line: _Line) -> ModelState:
    job = state.jobs[line.data["job_id"]]
    assert job.candidate is not None  # noqa: S101  (deploying is reached through candidate.found only)
    state = _with_job(state, line, deployed=True, deployed_at=line.at)
    return _serving(state, Champion(job.candidate, line.at, job.job_id))


_OfCanary = Callable[[Canary, datetime, Mapping[str, Any]], Canary]


def _canary_began(state: ModelState, line: _Line) -> ModelState:
    return _moved(state, line, JobStatus.DEPLOYING, canary=canary_state.begun(line.at, line.data))


def _canary(state: ModelState, line: _Line, after: _OfCanary) -> ModelState:
    canary = state.jobs[line.data["job_id"]].canary
    assert canary is not None  # noqa: S101  (canary.began comes first)
    return _with_job(state, line, canary=after(canary, line.at, line.data), stalled="")


def _canary_ended(state: ModelState, line: _Line) -> ModelState:
    state = _canary(state, line, canary_state.ended)
    candidate = state.jobs[line.data["job_id"]].candidate
    if candidate is None or not line.data["withdraws"]:
        return state
    return replace(state, quarantined={**state.quarantined, candidate.digest: candidate.version})


def _canary_cleared(state: ModelState, line: _Line) -> ModelState:
    return _with_job(state, line, stalled="")


def _stray(state: ModelState, line: _Line) -> ModelState:
    return replace(state, stray=Split(**line.data["split"]))


def _stray_cleared(state: ModelState, line: _Line) -> ModelState:
    return replace(state, stray=None)


def _stalled(state: ModelState, line: _Line) -> ModelState:
    return _with_job(state, line, stalled=line.data["reason"])


def _closed(state: ModelState, line: _Line) -> ModelState:
    data = line.data
    return _moved(
        state,
        line,
        JobStatus(data["status"]),
        completed_at=line.at,
        outcome=data["reason"],
        error_message=None if data["status"] == JobStatus.COMPLETED.value else data["reason"],
        awaiting_until=None,
    )


def _rolling_back(state: ModelState, line: _Line) -> ModelState:
    assert state.rollback is not None  # noqa: S101  (only decided for a request)
    data = line.data
    going = replace(
        state.rollback,
        target=version_of(data["target"]),
        expected=data["expected"],
        policy=data.get("policy", ""),
        stalled="",
    )
    return replace(state, rollback=going)


def _rollback_stalled(state: ModelState, line: _Line) -> ModelState:
    assert state.rollback is not None  # noqa: S101  (only one that goes on can wait)
    return replace(state, rollback=replace(state.rollback, stalled=line.data["reason"]))


def _rollback_skipped(state: ModelState, line: _Line) -> ModelState:
    assert state.rollback is not None  # noqa: S101  (only a target that was chosen is given up)
    skipped = {**state.rollback.skipped, line.data["version"]["version"]: line.data["reason"]}
    return replace(state, rollback=replace(state.rollback, target=None, expected=None, skipped=skipped))


def _rolled_back(state: ModelState, line: _Line) -> ModelState:
    withdrawn, target = state.champion, version_of(line.data["target"])
    assert withdrawn is not None  # noqa: S101  (rollback.intended asks for a champion)
    jobs = dict(state.jobs)
    if withdrawn.job_id in jobs:
        jobs[withdrawn.job_id] = replace(jobs[withdrawn.job_id], rolled_back_at=line.at)
    earlier = next((c for c in reversed(state.served) if c.version.version == target.version), None)
    state = _serving(state, Champion(target, line.at, earlier.job_id if earlier else None))
    return replace(
        state,
        jobs=jobs,
        quarantined={**state.quarantined, withdrawn.version.digest: withdrawn.version.version},
        withdrawn_at=line.at,
        rollback=None,
    )


def _rollback_failed(state: ModelState, line: _Line) -> ModelState:
    return replace(state, rollback=None)


def _watch_begun(state: ModelState, line: _Line) -> ModelState:
    return replace(state, watch=Watch(line.data["job_id"], line.at, terms_of(line.data)))


def _watch_batch(state: ModelState, line: _Line) -> ModelState:
    watch = _watch_of(state)
    moments = watch.moments.after(line.data["worse"])
    return replace(state, watch=replace(watch, moments=moments, paused=""))


def _watch_missed(state: ModelState, line: _Line) -> ModelState:
    watch = _watch_of(state)
    return replace(state, watch=replace(watch, missed=watch.missed + 1, paused=line.data["reason"]))


def _watch_ended(state: ModelState, line: _Line) -> ModelState:
    ended = replace(_watch_of(state), outcome=line.data["outcome"], reason=line.data["reason"])
    return replace(state, watch=ended)


def _watch_of(state: ModelState) -> Watch:
    assert state.watch is not None  # noqa: S101  (watch.begun comes first)
    return state.watch


_STEPS: Mapping[str, Callable[[ModelState, _Line], ModelState]] = {
    "model.enrolled": _enrolled,
    "champion.adopted": _adopted,
    "champion.conflict": _conflict,
    "champion.restored": _restored,
    "champion.below_floor": _below_floor,
    "champion.above_floor": _above_floor,
    "look.changed": _looked,
    "slots.missed": _missed,
    "unknown.lasting": _alarmed,
    "request.start": _start,
    "request.approve": _approved,
    "request.reject": _rejected,
    "request.cancel": _cancelled,
    "request.rollback": _rollback_asked,
    "request.override": _override,
    "job.opened": _opened,
    "run.intended": _run_intended,
    "run.ended": _run_ended,
    "candidate.found": _candidate,
    "job.validated": _validated,
    "approval.awaited": _awaited,
    "job.decided": _decided,
    "promotion.intended": _promoting,
    "promotion.done": _promoted,
    "canary.began": _canary_began,
    "canary.step": partial(_canary, after=canary_state.stepped),
    "canary.applied": partial(_canary, after=canary_state.applied),
    "canary.batch": partial(_canary, after=canary_state.compared),
    "canary.held": partial(_canary, after=canary_state.held),
    "canary.conflict": partial(_canary, after=canary_state.moved),
    "canary.passed": partial(_canary, after=canary_state.passed),
    "canary.ended": _canary_ended,
    "canary.cleared": _canary_cleared,
    "split.stray": _stray,
    "split.cleared": _stray_cleared,
    "job.stalled": _stalled,
    "job.closed": _closed,
    "rollback.intended": _rolling_back,
    "rollback.stalled": _rollback_stalled,
    "rollback.skipped": _rollback_skipped,
    "rollback.done": _rolled_back,
    "rollback.failed": _rollback_failed,
    "watch.begun": _watch_begun,
    "watch.batch": _watch_batch,
    "watch.missed": _watch_missed,
    "watch.ended": _watch_ended,
}

KINDS = frozenset(_STEPS)
"""Every kind of entry this version writes and reads."""
