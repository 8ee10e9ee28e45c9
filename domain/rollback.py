"""The way back: to the last version that served and is not quarantined."""

from __future__ import annotations

from datetime import datetime, timedelta

from ..ports.registry import ModelVersion
from .idle import champion_label
from .plan import RETRY, ChampionSeen, Plan, SetChampion, Trouble
from .sealing import Draft
from .spec import ModelSpec
from .state import ModelState, Rollback


def rollback_target(state: ModelState, to: str | None) -> ModelVersion | None:
    """The version to go back to.

    Args:
        state: What the ledger knows.
        to: Version label asked for; ``None`` takes the last one that served.

    Returns:
        The version; ``None`` when no version that served is left (or the one asked for never served, serves
        now, or is quarantined).
    """
    serving = champion_label(state.champion)
    for champion in reversed(state.served):
        version = champion.version
        fits = to is None or version.version == to
        if fits and version.version != serving and version.digest not in state.quarantined:
            return version
    return None


def decide_rollback(spec: ModelSpec, state: ModelState, seen: ChampionSeen) -> Plan:
    """Intend the move back, then follow it until the alias shows it."""
    rollback = state.rollback
    assert rollback is not None  # noqa: S101  (the phase says so)
    found = seen.champion.version if seen.champion else None
    if rollback.target is None:
        return _intend(spec, state, found)
    if found == rollback.target.version:
        account = _account(rollback, rollback.expected, rollback.policy or spec.digest)
        data = {"target": rollback.target, "withdrawn": rollback.expected, **account}
        return Plan((Draft("rollback.done", data),))
    if found == rollback.expected:
        return Plan((), SetChampion(rollback.target, rollback.expected))
    conflict = Draft("champion.conflict", {"expected": rollback.expected, "found": found})
    return Plan((conflict, _failed(f"somebody moved the champion to version {found}")))


def decide_rollback_trouble(trouble: Trouble, now: datetime) -> Plan:
    """The registry did not answer: try again if that may help, else give up and say so."""
    if trouble.temporary:
        return Plan(look_at=now + (timedelta(seconds=trouble.retry_after) if trouble.retry_after else RETRY))
    return Plan((_failed(trouble.reason),))


def _intend(spec: ModelSpec, state: ModelState, found: str | None) -> Plan:
    rollback = state.rollback
    assert rollback is not None  # noqa: S101  (the caller asked)
    serving = champion_label(state.champion)
    target = rollback_target(state, rollback.to)
    if target is None:
        return Plan((_failed("no earlier version that served is left to go back to"),))
    if found != serving:
        return Plan((_failed(f"the champion is version {found}, the ledger says {serving}"),))
    data = {"target": target, "expected": serving, **_account(rollback, serving, spec.digest)}
    return Plan((Draft("rollback.intended", data),), SetChampion(target, serving))


def _account(rollback: Rollback, before: str | None, policy: str) -> dict[str, str | None]:
    """What every entry of a rollback answers for: who, why, instead of which version, under which policy."""
    return {"who": rollback.actor, "why": rollback.reason, "before": before, "policy": policy}


def _failed(reason: str) -> Draft:
    return Draft("rollback.failed", {"reason": reason})
