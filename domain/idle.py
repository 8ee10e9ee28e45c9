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
from .floor_alarm import floor_alarm, measured_live
from .fold import SLOT_KEY
from .looks import changed_look
from .plan import POLL, RETRY, IdleSeen, Plan, Trouble
from .schedule import next_slot
from .sealing import Draft
from .slots import ScheduleRule
from .spec import ModelSpec
from .state import Champion, ModelState
from .strays import settle_stray
from .suppression import Held, cooldown_end, held_back, signal_answer
from .trigger_types import TriggerType
from .triggers import ManualRule, Observations, Rule, Situation, is_pending
from .verdict import Answer, Verdict, unknown

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
    settled = settle_champion(spec, state, seen.champion)
    if settled:
        return Plan(settled)  # look again with the champion known
    stray = settle_stray(state, seen.split)
    if stray is not None:
        return stray
    situation = situation_of(state, seen.champion, now)
    if state.start is not None:
        return Plan((_open_requested(spec, state, situation),))
    verdict = rule.judge(seen.observations, situation)
    if not verdict.is_yes and is_pending(rule.needs(situation), seen.observations):
        return Plan(look_at=now + POLL)
    answer = signal_answer(rule, verdict, situation)
    by_signals = answer is Answer.YES
    held = held_back(spec, state, now, by_signals, seen.exhausted) if verdict.is_yes else None
    opens = verdict.is_yes and held is None
    verdicts = {leaf.name: _plain(leaf.judge(seen.observations, situation)) for leaf in rule.leaves()}
    drafts = floor_alarm(spec, state, measured_live(spec, state, verdicts), now)
    drafts += _missed(state, rule, situation, opens)
    drafts += changed_look(spec, state, verdicts, answer, held, now, opens)
    drafts += _alarms(spec, state, verdicts, now)
    if opens:
        cause = rule.cause(seen.observations, situation)
        slot = _due_slot(rule, situation)
        drafts += (_open_triggered(spec, state, situation, cause, verdict, seen.observations, slot),)
        return Plan(drafts, verdicts=verdicts)
    look_at = _next_look(spec, rule, state, held, now)
    return Plan(drafts, None, look_at, verdicts, held.reason if held else "")


def decide_blind(spec: ModelSpec, rule: Rule, state: ModelState, trouble: Trouble, now: datetime) -> Plan:
    """Nobody can say who serves: every trigger is unknown for that reason, a person's request included."""
    names = [leaf.name for leaf in rule.leaves()] + ([ManualRule.name] if state.start else [])
    verdicts = dict.fromkeys(names, _plain(unknown(trouble.reason)))
    wait = timedelta(seconds=trouble.retry_after) if trouble.retry_after else RETRY
    changed = changed_look(spec, state, verdicts, Answer.UNKNOWN, None, now)
    drafts = changed + _alarms(spec, state, verdicts, now)
    # Looks that see nothing are many, and would push those that did out of the rolling record.
    return Plan(drafts, look_at=now + wait, verdicts=verdicts if changed else None)


def settle_champion(spec: ModelSpec, state: ModelState, found: ModelVersion | None) -> tuple[Draft, ...]:
    """Reconcile the alias with the ledger: adopt at first sight, report a foreign move, never overwrite.

    Args:
        spec: The model's settings.
        state: What the ledger knows.
        found: The version that the alias points at; ``None`` for none.

    Returns:
        What is to be recorded; nothing when alias and ledger agree, or their disagreement was told.
    """
    known = state.champion.version if state.champion else None
    if found == known or (found and known and (found.version, found.digest) == (known.version, known.digest)):
        return (Draft("champion.restored", {"version": found}),) if state.conflict else ()
    label = found.version if found else None
    approved = state.adopt and state.conflict == label  # a person accepts the version they saw, no other
    by_policy = spec.promotion.on_conflict == "adopt" and found and found.digest not in state.quarantined
    if found is not None and (known is None or approved or by_policy):
        return (Draft("champion.adopted", {"version": found, "before": known and known.version}),)
    return conflict_with(state, label)


def conflict_with(state: ModelState, found: str | None) -> tuple[Draft, ...]:
    """Report that the alias points elsewhere than the ledger says; nothing when that was told.

    Args:
        state: What the ledger knows.
        found: Version label that the alias points at; ``None`` for none.
    """
    if state.conflict == (found or "none"):
        return ()
    return (Draft("champion.conflict", {"expected": champion_label(state.champion), "found": found}),)


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


def _next_look(spec: ModelSpec, rule: Rule, state: ModelState, held: Held | None, now: datetime) -> datetime:
    """The regular look, or a slot or the end of what holds back before it."""
    times = [now + timedelta(seconds=spec.check_every_seconds)]
    times += [
        next_slot(leaf.expression, leaf.time_zone, now)
        for leaf in rule.leaves()
        if isinstance(leaf, ScheduleRule)
    ]
    ends = (cooldown_end(spec, state), held.until if held else None)
    times += [until for until in ends if until is not None and until > now]
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
    key = f"job:{job_id}" if slot is None else _slot_key(slot)
    return Draft("job.opened", {**opened, "slot": slot}, key=key)


def _due_slot(rule: Rule, situation: Situation) -> datetime | None:
    """The cron slot that a job opened now answers to, whatever its cause; ``None`` when none is due."""
    schedules = (leaf for leaf in rule.leaves() if isinstance(leaf, ScheduleRule))
    due = [slot for leaf in schedules if (slot := leaf.slot(situation)) is not None]
    return max(due, default=None)


def _missed(state: ModelState, rule: Rule, situation: Situation, opens: bool) -> tuple[Draft, ...]:
    """What is given up: at once where no slot is due any more, else when a job answers the one that is.

    Under the key of its last slot, so that no job can answer that any more.
    """
    schedule = next((leaf for leaf in rule.leaves() if isinstance(leaf, ScheduleRule)), None)
    slot = schedule.slot(situation) if schedule else None
    gap = schedule.missed(situation) if schedule and (opens or slot is None) else None
    if schedule is None or gap is None:
        return ()
    job_id = job_id_for(state) if opens else None
    told = {"count": gap.count, "first": gap.first, "last": gap.last, "policy": schedule.missed_slots}
    return (Draft("slots.missed", {**told, "slot": slot, "job_id": job_id}, key=_slot_key(gap.last)),)


def _slot_key(slot: datetime) -> str:
    return f"{SLOT_KEY}{slot.isoformat()}"


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
    champion's own training ended, so that neither version has seen a row of it. Rows whose labels are not due
    yet are in neither.
    """
    end = now - spec.label_delay
    start = end - spec.holdout
    if champion is not None and champion.trained_on is not None:
        start = min(max(start, champion.trained_on.end), end)
    training = TimeWindow(start - timedelta(days=spec.trigger.training_window_days), start)
    return training, TimeWindow(start, end)


def champion_label(champion: Champion | None) -> str | None:
    """Version label of a champion; ``None`` for none."""
    return champion.version.version if champion else None
