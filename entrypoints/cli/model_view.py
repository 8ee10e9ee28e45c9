"""A model as ``show`` tells it: who serves, what goes on, what the triggers said, what stands in the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ...domain.explain import held_text
from ...domain.watch import standing as standing_of_watch
from .job_summary import standing, summary_of
from .output import minute, print_facts, print_json

if TYPE_CHECKING:
    from datetime import datetime

    from ...domain.state import Champion, ModelState
    from ..reading import Installation

_LAST_JOBS = 5


def show_model(installation: Installation, model: str, as_json: bool) -> None:
    """Print how a model stands.

    Args:
        installation: Where to read.
        model: Name of the model.
        as_json: Print an object with stable keys.
    """
    state, look = installation.state(model), installation.next_look(model)
    watched = model in installation.fleet
    if as_json:
        print_json(_object(state, look, watched))
        return
    print_facts(_facts(state, look, watched))
    _print_verdicts(state)
    _print_jobs(state)


def _object(state: ModelState, look: datetime | None, watched: bool) -> dict[str, Any]:
    return {
        "model": state.model,
        "in_settings": watched,
        "enrolled_at": state.enrolled_at,
        "champion": state.champion,
        "served_before": state.served,
        "withdrawn": sorted(state.quarantined.values()),
        "conflict": state.conflict,
        "below_floor": state.below_floor,
        "open_job": summary_of(state.open_job) if state.open_job else None,
        "start_request": state.start,
        "rollback_request": state.rollback,
        "verdicts": state.verdicts,
        "unknown_since": state.unknown_since,
        "suppressed": state.suppressed or None,
        "suppressed_until": state.suppressed_until,
        "flapping": state.steadiness.flapping,
        "missed_slots": state.missed,
        "watch": _watch_object(state),
        "verdicts_changed_at": state.looked_at,
        "next_look": look,
        "jobs": [summary_of(job) for job in _last(state)],
    }


def _facts(state: ModelState, look: datetime | None, watched: bool) -> dict[str, str]:
    since = minute(state.enrolled_at) or "not yet; 'autoretrain run' begins"
    return {
        "Model": state.model,
        "Watched since": since if watched else "not in the settings any more; nothing looks at it",
        "Champion": _serving(state.champion),
        "Served before": ", ".join(f"version {champion.version.version}" for champion in state.served),
        "Withdrawn": ", ".join(f"version {label}" for label in sorted(state.quarantined.values())),
        "Conflict": _conflict(state),
        "Below the floor": _below_floor(state),
        "Asked for": _asked(state),
        "Suppressed": _suppressed(state),
        "Flapping": "the verdicts change too fast; not every change is recorded, each look is counted"
        if state.steadiness.flapping
        else "",
        "Missed slots": _missed(state),
        "Watch": _watch(state),
        "Next look": minute(look),
    }


def _serving(champion: Champion | None) -> str:
    if champion is None:
        return "none"
    since = f"since {minute(champion.since)}" if champion.since else "adopted as it was found"
    job = f", from job {champion.job_id[:8]}" if champion.job_id else ""
    return f"version {champion.version.version}, {since}{job}"


def _conflict(state: ModelState) -> str:
    if state.conflict is None:
        return ""
    if state.conflict == "none":
        return (
            "the alias points at no version, against the ledger; set it in the registry, or: autoretrain "
            f"rollback {state.model}"
        )
    return (
        f"the alias points at version {state.conflict}, against the ledger; nothing is promoted until it is "
        f"set back, or accepted: autoretrain override adopt {state.model}"
    )


def _below_floor(state: ModelState) -> str:
    below = state.below_floor
    if below is None:
        return ""
    where = "as watched" if below.source == "live" else "on the holdout of a job"
    return (
        f"the champion's {below.measure} was {below.value:.4f} {where} on {minute(below.since)}, below "
        f"{below.floor:g}; nothing worse is promoted for it: train a better one, or roll back"
    )


def _suppressed(state: ModelState) -> str:
    if not state.suppressed:
        return ""
    held = held_text(state.suppressed, state.suppressed_until, state.steadiness.flapping)
    return f"the triggers want a retraining, held back by: {held}"


def _missed(state: ModelState) -> str:
    missed = state.missed
    if missed is None:
        return ""
    last = f"the last {missed.count} from {minute(missed.first)} to {minute(missed.last)}"
    return f"{missed.total} in all, {last} (missed_slots = {missed.policy})"


def _watch(state: ModelState) -> str:
    if state.watch is None:
        return ""
    until = "" if state.watch.outcome else f"; until {minute(state.watch.until)} at the latest"
    return f"{standing_of_watch(state.watch)}{until}"


def _watch_object(state: ModelState) -> dict[str, Any] | None:
    watch = state.watch
    if watch is None:
        return None
    reading = watch.reading
    return {
        "job_id": watch.job_id,
        "since": watch.since,
        "until": watch.until,
        "metric": watch.terms.metric,
        "batches": watch.moments.count,
        "batches_missed": watch.missed,
        "batches_wanted": watch.terms.batches,
        "worse": watch.moments.mean if watch.moments.count else None,
        "interval": reading.interval,
        "e_value": reading.e_value,
        "tolerance": watch.terms.tolerance,
        "paused": watch.paused or None,
        "outcome": watch.outcome or None,
        "reason": watch.reason or None,
    }


def _asked(state: ModelState) -> str:
    asked = []
    if state.start:
        asked.append(f"retraining by {state.start.actor}")
    if state.rollback:
        waits = f", which waits: {state.rollback.stalled}" if state.rollback.stalled else ""
        asked.append(f"rollback by {state.rollback.actor}{waits}")
    return ", ".join(asked)


def _print_verdicts(state: ModelState) -> None:
    if not state.verdicts:
        return
    click.echo(f"\nVerdicts (last changed {minute(state.looked_at)})")
    for name, verdict in state.verdicts.items():
        since = state.unknown_since.get(name)
        lasting = f" since {minute(since)}" if since else ""
        click.echo(f"    {name}: {verdict['answer']}{lasting}: {verdict['reason']}")


def _print_jobs(state: ModelState) -> None:
    jobs = _last(state)
    if jobs:
        click.echo("\nLast jobs")
    for job in jobs:
        detail = standing(job)
        click.echo(
            f"    {job.job_id[:8]}  {minute(job.created_at)}  {job.trigger_type.value}: {job.status.value}"
            + (f", {detail}" if detail else "")
        )


def _last(state: ModelState) -> list[Any]:
    return list(state.jobs.values())[::-1][:_LAST_JOBS]
