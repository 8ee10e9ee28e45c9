"""The decision of a tick: from what is known and seen of a model to what is recorded and done."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import cast

from .canary import decide_canary, decide_clearing, decide_stopped, decide_traffic_trouble, is_stopped
from .idle import decide_blind, decide_idle
from .jobs import RetrainingJob
from .lifecycle import (
    decide_approval,
    decide_cancelled,
    decide_data,
    decide_deployment,
    decide_moved,
    decide_training,
    decide_trouble,
    decide_validation,
)
from .plan import (
    ChampionSeen,
    DataSeen,
    IdleSeen,
    Phase,
    Plan,
    RunSeen,
    ScoresSeen,
    Seen,
    TrafficSeen,
    Trouble,
    WatchSeen,
    phase_of,
)
from .rollback import decide_rollback, decide_rollback_trouble
from .spec import ModelSpec
from .state import ModelState
from .superseding import decide_pending
from .triggers import Rule
from .watching import decide_watch, next_watch

TRAFFIC = frozenset({Phase.CANARY, Phase.CLEARING})
"""Phases in which a router is looked at."""


def decide(spec: ModelSpec, rule: Rule, state: ModelState, seen: Seen, now: datetime) -> Plan:
    """Decide what follows for one model. Pure: the same arguments give the same plan.

    Args:
        spec: The model's settings.
        rule: Its combined trigger.
        state: What the ledger knows.
        seen: What was seen, of the kind that the state's phase asks for, or the trouble in seeing it.
        now: Time of the tick.

    Returns:
        Entries to record, then an act, then when to look again.
    """
    plan = _plan(spec, rule, state, seen, now)
    wake = next_watch(spec, state, now)
    if plan.look_at is None or wake is None:
        return plan
    return replace(plan, look_at=min(plan.look_at, wake))


def _plan(spec: ModelSpec, rule: Rule, state: ModelState, seen: Seen, now: datetime) -> Plan:
    if isinstance(seen, WatchSeen):
        return Plan(decide_watch(spec, state, seen.answers, now))  # then look again
    if phase_of(state) is Phase.ROLLBACK:
        if isinstance(seen, Trouble):
            return decide_rollback_trouble(state, seen, now)
        return decide_rollback(spec, state, cast(ChampionSeen, seen))
    if state.open_job is None:
        if isinstance(seen, Trouble):
            return decide_blind(spec, rule, state, seen, now)
        return decide_idle(spec, rule, state, cast(IdleSeen, seen), now)
    return _decide_job(spec, rule, state, state.open_job, seen, now)


def _decide_job(
    spec: ModelSpec, rule: Rule, state: ModelState, job: RetrainingJob, seen: Seen, now: datetime
) -> Plan:
    if is_cancelled_at_rest(state):
        return decide_cancelled(job)
    if phase_of(state) in TRAFFIC:
        return _decide_traffic(spec, state, seen, now)
    match seen:
        case Trouble():
            return decide_trouble(state, job, seen, now)
        case DataSeen():
            return decide_data(spec, state, job, seen, now)
        case RunSeen():
            return decide_training(spec, job, seen, now)
        case ScoresSeen():
            return decide_validation(spec, state, job, seen, now)
        case ChampionSeen() if phase_of(state) is Phase.DEPLOYMENT:
            return decide_deployment(spec, state, job, seen)
        case ChampionSeen():
            return decide_moved(spec, state, seen)
    return _decide_waiting(spec, rule, state, job, seen, now)


def _decide_waiting(
    spec: ModelSpec, rule: Rule, state: ModelState, job: RetrainingJob, seen: Seen, now: datetime
) -> Plan:
    if isinstance(seen, IdleSeen):
        return decide_pending(spec, rule, state, job, seen, now)
    return decide_approval(spec, state, job, now)


def _decide_traffic(spec: ModelSpec, state: ModelState, seen: Seen, now: datetime) -> Plan:
    match seen:
        case Trouble():
            return decide_traffic_trouble(state, seen, now)
        case ChampionSeen():
            return decide_moved(spec, state, seen)
        case TrafficSeen() if phase_of(state) is Phase.CLEARING:
            return decide_clearing(state, seen)
        case TrafficSeen():
            return decide_canary(spec, state, seen, now)
    return decide_stopped(state, is_stopped(state))


def is_cancelled_at_rest(state: ModelState) -> bool:
    """Whether the open job was cancelled while no training of it runs, so that nothing need be seen."""
    job = state.open_job
    at_rest = phase_of(state) in (Phase.DATA, Phase.VALIDATION, Phase.APPROVAL)
    return job is not None and job.cancelled_by is not None and at_rest
