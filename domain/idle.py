"""An idle model: who serves, what the triggers say, and whether a job is opened."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from ..ports.metrics import MetricWindow
from ..ports.registry import ModelVersion
from ..ports.values import TimeWindow
from .plan import POLL, RETRY, IdleSeen, Plan, Trouble
from .schedule import next_slot
from .sealing import Draft
from .spec import ModelSpec
from .state import Champion, ModelState
from .trigger_types import TriggerType
from .triggers import ManualRule, Observations, Rule, ScheduleRule, Situation, is_pending
from .verdict import Verdict, unknown

_JOB_NAMESPACE = uuid.UUID("6c1b3f0e-8f1c-5d0a-9a55-3c1f0c7d2b10")


def job_id_for(state: ModelState) -> str:
    """Identity of the job that would be opened now.

    Derived from the end of the stream, so that deciding again after a crash gives the same job, and a
    replay of the ledger the same ids.
    """
    return str(uuid.uuid5(_JOB_NAMESPACE, f"{state.model}/{state.head.seq}/{state.head.hash}"))


def situation_of(state: ModelState, champion: ModelVersion | None, now: datetime) -> Situation:
    """What the rules may know of a model."""
    serving = state.champion
    known = serving if serving and champion and serving.version.version == champion.version else None
    return Situation(
        model=state.model,
        now=now,
        watched_since=state.enrolled_at or now,
        champion=champion,
        serving_since=known.since if known else None,
        last_slot=state.last_slot,
        start_requested=state.start.reason if state.start else None,
    )


def decide_idle(spec: ModelSpec, rule: Rule, state: ModelState, seen: IdleSeen, now: datetime) -> Plan:
    """Decide what an idle model needs.

    Args:
        spec: The model's settings.
        rule: Its combined trigger.
        state: What the ledger knows.
        seen: The champion alias and the observations the rule asked for.
        now: Time of the look.

    Returns:
        Adoption or conflict of the champion first; then a job for a person's request; then what the
        triggers say.
    """
    settled = _settle_champion(spec, state, seen.champion)
    if settled:
        return Plan(settled)  # look again with the champion known
    situation = situation_of(state, seen.champion, now)
    if state.start is not None:
        return Plan((_open_requested(spec, state, situation),))
    verdict = rule.judge(seen.observations, situation)
    if not verdict.is_yes and is_pending(rule.needs(situation), seen.observations):
        return Plan(look_at=now + POLL)
    suppressed = _suppression(spec, state, now) if verdict.is_yes else ""
    verdicts = {leaf.name: _plain(leaf.judge(seen.observations, situation)) for leaf in rule.leaves()}
    drafts = _changed(state, verdicts, suppressed) + _alarms(spec, state, verdicts, now)
    if verdict.is_yes and not suppressed:
        cause = rule.cause(seen.observations, situation)
        slot = _due_slot(rule, situation)
        drafts += (_open_triggered(spec, state, situation, cause, verdict, seen.observations, slot),)
        return Plan(drafts, verdicts=verdicts)
    return Plan(drafts, None, _next_look(spec, rule, state, now), verdicts, suppressed)


def decide_blind(spec: ModelSpec, rule: Rule, state: ModelState, trouble: Trouble, now: datetime) -> Plan:
    """Nobody can say who serves: every trigger is unknown for that reason, a person's request included."""
    names = [leaf.name for leaf in rule.leaves()] + ([ManualRule.name] if state.start else [])
    verdicts = dict.fromkeys(names, _plain(unknown(trouble.reason)))
    wait = timedelta(seconds=trouble.retry_after) if trouble.retry_after else RETRY
    return Plan(_changed(state, verdicts, "") + _alarms(spec, state, verdicts, now), look_at=now + wait)


def _settle_champion(spec: ModelSpec, state: ModelState, found: ModelVersion | None) -> tuple[Draft, ...]:
    """Reconcile the alias with the ledger: adopt at first sight, report a foreign move, never overwrite."""
    known = state.champion.version if state.champion else None
    if found == known or (found and known and (found.version, found.digest) == (known.version, known.digest)):
        return (Draft("champion.restored", {"version": found}),) if state.conflict else ()
    label = found.version if found else None
    approved = state.adopt and state.conflict == label  # a person accepts the version they saw, no other
    by_policy = spec.promotion.on_conflict == "adopt" and found and found.digest not in state.quarantined
    if found is not None and (known is None or approved or by_policy):
        return (Draft("champion.adopted", {"version": found, "before": known and known.version}),)
    if state.conflict == (label or "none"):
        return ()
    return (Draft("champion.conflict", {"expected": known and known.version, "found": label}),)


def _suppression(spec: ModelSpec, state: ModelState, now: datetime) -> str:
    """Why nothing is done though the rule says yes; empty when nothing stands against it."""
    if state.conflict is not None:
        return "conflict"
    until, last = cooldown_end(spec, state), state.last_job
    just_ended = last is not None and last.completed_at == now  # without a cooldown, at most one job a look
    return "cooldown" if just_ended or (until is not None and now < until) else ""


def cooldown_end(spec: ModelSpec, state: ModelState) -> datetime | None:
    """Until when no job is opened by a trigger; ``None`` before the first job."""
    last = state.last_job
    ended = last.completed_at if last else None
    return ended + timedelta(hours=spec.cooldown_hours) if ended else None


def _changed(state: ModelState, verdicts: Mapping[str, Any], suppressed: str) -> tuple[Draft, ...]:
    """An entry only when an answer, or the reason for doing nothing, is another than before."""
    before = {name: verdict["answer"] for name, verdict in state.verdicts.items()}
    after = {name: verdict["answer"] for name, verdict in verdicts.items()}
    if state.looked_at is not None and before == after and state.suppressed == suppressed:
        return ()
    return (Draft("look.changed", {"verdicts": verdicts, "suppressed": suppressed}),)


def _alarms(
    spec: ModelSpec, state: ModelState, verdicts: Mapping[str, Any], now: datetime
) -> tuple[Draft, ...]:
    """Tell, once, of a trigger that stays unknown."""
    limit = timedelta(hours=spec.unknown_alarm_hours)
    lasting = [
        name
        for name, since in state.unknown_since.items()
        if name in verdicts and verdicts[name]["answer"] == "unknown"
        if now - since >= limit and name not in state.alarmed
    ]
    return tuple(
        Draft(
            "unknown.lasting",
            {"trigger": name, "since": state.unknown_since[name], "reason": verdicts[name]["reason"]},
        )
        for name in lasting
    )


def _next_look(spec: ModelSpec, rule: Rule, state: ModelState, now: datetime) -> datetime:
    """The regular look, or a slot or the end of a cooldown before it."""
    times = [now + timedelta(seconds=spec.check_every_seconds)]
    times += [
        next_slot(leaf.expression, leaf.time_zone, now)
        for leaf in rule.leaves()
        if isinstance(leaf, ScheduleRule)
    ]
    until = cooldown_end(spec, state)
    times += [until] if until is not None and until > now else []
    return min(times)


def _plain(verdict: Verdict) -> dict[str, Any]:
    return {"answer": verdict.answer.value, "reason": verdict.reason, "evidence": verdict.evidence}


def _open_requested(spec: ModelSpec, state: ModelState, situation: Situation) -> Draft:
    request = state.start
    assert request is not None  # noqa: S101  (the caller asked)
    verdict = ManualRule().judge({}, situation)
    opened = _opening(spec, situation, request.job_id, TriggerType.MANUAL, replace(verdict, evidence={}))
    opened["parameters"] = {**spec.training.parameters, **request.parameters}
    opened["evidence"] = {"actor": request.actor}
    return Draft("job.opened", opened, key=f"job:{request.job_id}", actor=request.actor)


def _open_triggered(
    spec: ModelSpec,
    state: ModelState,
    situation: Situation,
    cause: Rule,
    verdict: Verdict,
    observations: Observations,
    slot: datetime | None,
) -> Draft:
    job_id = job_id_for(state)
    evidence = cause.judge(observations, situation).evidence
    opened = _opening(spec, situation, job_id, cause.type, replace(verdict, evidence=evidence))
    opened["metrics_before"] = {
        seen.query.metric: seen.value
        for seen in observations.values()
        if isinstance(seen, MetricWindow) and seen.value is not None
    }
    key = f"job:{job_id}" if slot is None else f"slot:{slot.isoformat()}"
    return Draft("job.opened", {**opened, "slot": slot}, key=key)


def _due_slot(rule: Rule, situation: Situation) -> datetime | None:
    """The cron slot that a job opened now answers to, whatever its cause; ``None`` when none is due."""
    schedules = (leaf for leaf in rule.leaves() if isinstance(leaf, ScheduleRule))
    due = [leaf.slot(situation) for leaf in schedules if leaf.judge({}, situation).is_yes]
    return max(due, default=None)


def _opening(
    spec: ModelSpec, situation: Situation, job_id: str, trigger: TriggerType, verdict: Verdict
) -> dict[str, Any]:
    training, holdout = windows_of(spec, situation.champion, situation.now)
    return {
        "job_id": job_id,
        "trigger_type": trigger,
        "reason": verdict.reason,
        "evidence": verdict.evidence,
        "parameters": spec.training.parameters,
        "training_window": training,
        "holdout_window": holdout,
        "champion": situation.champion,
        "policy": spec.digest,
        "metrics_before": {},
        "slot": None,
    }


def windows_of(
    spec: ModelSpec, champion: ModelVersion | None, now: datetime
) -> tuple[TimeWindow, TimeWindow]:
    """Training and holdout windows of a job opened now.

    The holdout is the newest data, so that it is later than all training rows; it begins no earlier than the
    champion's own training ended, so that neither version has seen a row of it.
    """
    start = now - spec.holdout
    if champion is not None and champion.trained_on is not None:
        start = min(max(start, champion.trained_on.end), now)
    training = TimeWindow(start - timedelta(days=spec.trigger.training_window_days), start)
    return training, TimeWindow(start, now)


def champion_label(champion: Champion | None) -> str | None:
    """Version label of a champion; ``None`` for none."""
    return champion.version.version if champion else None
