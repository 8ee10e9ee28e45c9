"""Messages for people, derived from entries when they are sealed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Literal

from ..ports.ledger import Entry
from ..ports.notifier import Notice
from .canary_state import STUCK
from .jobs import JobStatus
from .sealing import load
from .state import ModelState

Severity = Literal["info", "warning", "critical"]
_Told = tuple[str, Severity, str, str]  # event, severity, title, body


def notices_of(state: ModelState, entries: Iterable[Entry]) -> tuple[Notice, ...]:
    """Notices that the entries call for.

    Args:
        state: The state before the first of them.
        entries: Sealed entries of one append; most call for none.

    Returns:
        Notices whose ids depend on the entries alone.
    """
    return tuple(notice for entry in entries for notice in _of(state, entry))


def _of(state: ModelState, entry: Entry) -> tuple[Notice, ...]:
    tell = _TELLERS.get(entry.kind)
    data = load(entry.data) if tell else {}
    told = tell(state, data) if tell else None
    if told is None:
        return ()
    event, severity, title, body = told
    facts = {"model": entry.model}
    if "job_id" in data:
        facts["job"] = data["job_id"]
    at = datetime.fromisoformat(entry.at)
    return (Notice(entry.hash[:32], entry.model, event, severity, title, body, at, facts),)


def _opened(state: ModelState, data: Mapping[str, Any]) -> _Told:
    return (
        "started",
        "info",
        f"Retraining of {state.model} started",
        f"{data['trigger_type']}: {data['reason']}",
    )


def _underpowered(state: ModelState, data: Mapping[str, Any]) -> _Told | None:
    power = data.get("power")
    if power is None or power["enough"] is not False:
        return None
    return "underpowered", "info", f"The holdout of {state.model} is too small", power["text"]


def _closed(state: ModelState, data: Mapping[str, Any]) -> _Told:
    job = state.jobs[data["job_id"]]
    if data["status"] == JobStatus.COMPLETED.value:
        return "completed", "info", f"Retraining of {state.model} completed", data["reason"]
    if job.status is JobStatus.DEPLOYING and data["status"] == JobStatus.FAILED.value:
        return "deployment_failed", "critical", f"Deployment of {state.model} failed", data["reason"]
    severity: Severity = "warning" if data["status"] == JobStatus.FAILED.value else "info"
    return "completed", severity, f"Retraining of {state.model} {data['status']}", data["reason"]


def _deployed(state: ModelState, data: Mapping[str, Any]) -> _Told:
    job = state.jobs[data["job_id"]]
    body = f"version {data['version']['version']} serves in place of {data['before'] or 'none'}"
    if job.decision:
        body += f": {job.decision.reason}"
    return "deployed", "info", f"{state.model} deployed", body


def _awaited(state: ModelState, data: Mapping[str, Any]) -> _Told:
    body = f"{data['reason']}; it waits until {data['until']}"
    return "needs_approval", "warning", f"{state.model} waits for your approval", body


def _approved(state: ModelState, data: Mapping[str, Any]) -> _Told | None:
    """One of several people has approved: the next one is asked."""
    job = state.jobs[data["job_id"]]
    missing = job.approvals_needed - len(job.approvals) - 1
    if missing < 1:
        return None
    body = f"{job.approvals_needed} different people must approve, {missing} more"
    return "needs_approval", "warning", f"{state.model} waits for another person's approval", body


def _rolled_back(state: ModelState, data: Mapping[str, Any]) -> _Told:
    serving = data["target"]["version"]
    body = f"version {data['withdrawn']} withdrawn, {serving} serves ({data['who']}: {data['why']})"
    return "rolled_back", "warning", f"{state.model} rolled back", body


def _rollback_failed(state: ModelState, data: Mapping[str, Any]) -> _Told:
    return "rollback_failed", "critical", f"Rollback of {state.model} failed", data["reason"]


def _conflict(state: ModelState, data: Mapping[str, Any]) -> _Told:
    body = f"the champion alias points at version {data['found']}, the ledger says {data['expected']}"
    return "conflict", "critical", f"Somebody moved the champion of {state.model}", body


def _below_floor(state: ModelState, data: Mapping[str, Any]) -> _Told:
    body = f"version {data['version']} serves with {_measured(data)}, below the floor of {data['floor']:g}"
    return "champion_below_floor", "critical", f"The champion of {state.model} is below the floor", body


def _above_floor(state: ModelState, data: Mapping[str, Any]) -> _Told:
    body = (
        f"version {data['version']} serves with {_measured(data)}, at or above the floor of {data['floor']:g}"
    )
    return "champion_above_floor", "info", f"The champion of {state.model} is above the floor again", body


def _measured(data: Mapping[str, Any]) -> str:
    """A measure of the champion, with where it comes from."""
    rows = "" if data["rows"] is None else f" on {data['rows']} rows"
    return f"{data['source']} {data['measure']} {data['value']:.4f}{rows}"


def _unknown(state: ModelState, data: Mapping[str, Any]) -> _Told:
    body = f"since {data['since']}: {data['reason']}"
    return "unknown_lasting", "warning", f"{data['trigger']} of {state.model} stays unknown", body


def _watch_missed(state: ModelState, data: Mapping[str, Any]) -> _Told | None:
    if state.watch is None or state.watch.paused:
        return None  # told when the pause began
    body = f"a batch of the live metric is unknown: {data['reason']}"
    return "watch_paused", "warning", f"The watch over {state.model} is paused", body


def _watch_ended(state: ModelState, data: Mapping[str, Any]) -> _Told:
    outcome, pages = data["outcome"], data["on_unknown"] == "page"
    severity: Severity = "info"
    if outcome == "harm" or (outcome == "unknown" and pages):
        severity = "warning" if data["rollback"] else "critical"
    elif outcome == "unknown":
        severity = "warning"
    then = "; it is taken back" if data["rollback"] else "; the version serves on"
    title = f"The watch over {state.model} ended: {outcome}"
    return "watch_ended", severity, title, f"{data['reason']}{then}"


def _step_begun(state: ModelState, data: Mapping[str, Any]) -> _Told:
    split = data["split"]
    share = f"{100 * split['weight']:.4g} %"
    get = f"copies of {share} of the requests go" if split["shadow"] else f"{share} of the requests go"
    body = f"step {data['number'] + 1} of {data['steps']}: {get} to version {split['candidate']}"
    return "canary_step", "info", f"Canary of {state.model} goes on", body


def _canary_held(state: ModelState, data: Mapping[str, Any]) -> _Told | None:
    if data["why"] == "samples":  # which only takes its time
        return None
    if data["why"] == STUCK:
        return "canary_stuck", "critical", f"The traffic of {state.model} is not taken back", data["reason"]
    return "canary_held", "warning", f"Canary of {state.model} is held", data["reason"]


def _canary_conflict(state: ModelState, data: Mapping[str, Any]) -> _Told:
    body = f"in force is {data['found']}, the ledger says {data['expected']}; the canary is halted"
    return "canary_conflict", "critical", f"Somebody changed the traffic of {state.model}", body


def _canary_ended(state: ModelState, data: Mapping[str, Any]) -> _Told | None:
    if not data["aborted"]:
        return None
    body = data["reason"] + ("; the version is withdrawn" if data["withdraws"] else "")
    return "canary_aborted", "warning", f"Canary of {state.model} aborted", body


def _stray(state: ModelState, data: Mapping[str, Any]) -> _Told:
    share = f"{100 * data['split']['weight']:.4g} %"
    body = f"a late call put {share} in force after its job had ended; it is taken back"
    return "canary_stray", "warning", f"A split of {state.model} was in force without a canary", body


_TELLERS: Mapping[str, Callable[[ModelState, Mapping[str, Any]], _Told | None]] = {
    "job.opened": _opened,
    "run.intended": _underpowered,
    "job.closed": _closed,
    "promotion.done": _deployed,
    "approval.awaited": _awaited,
    "request.approve": _approved,
    "rollback.done": _rolled_back,
    "rollback.failed": _rollback_failed,
    "champion.conflict": _conflict,
    "champion.below_floor": _below_floor,
    "champion.above_floor": _above_floor,
    "canary.applied": _step_begun,
    "canary.held": _canary_held,
    "canary.conflict": _canary_conflict,
    "canary.ended": _canary_ended,
    "split.stray": _stray,
    "unknown.lasting": _unknown,
    "watch.missed": _watch_missed,
    "watch.ended": _watch_ended,
}
