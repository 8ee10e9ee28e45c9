"""The way back: to the last version that served, can still serve, and is not quarantined."""

from __future__ import annotations

from datetime import datetime, timedelta

from ..ports.registry import ModelVersion
from .idle import champion_label, conflict_with
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
        now, is quarantined, or was found unfit by the rollback that goes on).
    """
    serving = champion_label(state.champion)
    unfit = state.rollback.skipped if state.rollback else {}
    for champion in reversed(state.served):
        version = champion.version
        fits = version.version not in unfit if to is None else version.version == to and to not in unfit
        if fits and version.version != serving and version.digest not in state.quarantined:
            return version
    return None


def decide_rollback(spec: ModelSpec, state: ModelState, seen: ChampionSeen) -> Plan:
    """Intend the move back, then follow it until the alias shows it."""
    rollback = _of(state)
    found = seen.champion.version if seen.champion else None
    if rollback.target is None:
        return _intend(spec, state, found)
    if found == rollback.target.version:
        serving = champion_label(state.champion)
        account = _account(rollback, serving, rollback.policy or spec.digest)
        data = {"target": rollback.target, "withdrawn": serving, **account}
        return Plan((Draft("rollback.done", data),))
    if found == rollback.expected:
        return Plan((), SetChampion(rollback.target, rollback.expected))
    conflict = conflict_with(state, found)
    return Plan((*conflict, _failed(f"somebody moved the champion to version {found}")))


def decide_rollback_trouble(state: ModelState, trouble: Trouble, now: datetime) -> Plan:
    """The registry did not do it: wait if that may help, else take the version before, else give up.

    That a version cannot serve (it is gone, or its artefact was altered) shows when the alias is about to
    be moved to it. A registry that refuses to be looked at says nothing about a version.
    """
    rollback = _of(state)
    if trouble.temporary:
        told = rollback.stalled == trouble.reason
        note = () if told else (Draft("rollback.stalled", {"reason": trouble.reason}),)
        wait = timedelta(seconds=trouble.retry_after) if trouble.retry_after else RETRY
        return Plan(note, look_at=now + wait)
    if trouble.acting and rollback.target is not None:
        data = {"version": rollback.target, "reason": trouble.reason}
        return Plan((Draft("rollback.skipped", data),))  # look again: for the next one, or for none left
    return Plan((_failed(trouble.reason),))


def _intend(spec: ModelSpec, state: ModelState, found: str | None) -> Plan:
    rollback, serving = _of(state), champion_label(state.champion)
    target = rollback_target(state, rollback.to)
    if target is None:
        return Plan((_failed(_nothing_left(rollback)),))
    # An alias that is gone (with the version it pointed at, say) is no champion that somebody else chose.
    if found not in (serving, None):
        text = f"the champion is version {found}, the ledger says {serving}"
        return Plan((*conflict_with(state, found), _failed(text)))
    data = {"target": target, "expected": found, **_account(rollback, serving, spec.digest)}
    return Plan((Draft("rollback.intended", data),), SetChampion(target, found))


def _nothing_left(rollback: Rollback) -> str:
    unfit = "; ".join(f"version {label} cannot serve: {why}" for label, why in rollback.skipped.items())
    if rollback.to is not None and unfit:
        return unfit
    text = "no earlier version that served is left to go back to"
    return f"{text} ({unfit})" if unfit else text


def _of(state: ModelState) -> Rollback:
    assert state.rollback is not None  # noqa: S101  (the phase says so)
    return state.rollback


def _account(rollback: Rollback, before: str | None, policy: str) -> dict[str, str | None]:
    """What every entry of a rollback answers for: who, why, instead of which version, under which policy."""
    return {"who": rollback.actor, "why": rollback.reason, "before": before, "policy": policy}


def _failed(reason: str) -> Draft:
    return Draft("rollback.failed", {"reason": reason})
