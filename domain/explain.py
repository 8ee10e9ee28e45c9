"""A job told as a timeline, from the ledger alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from ..ports.ledger import Entry
from . import canary_story, watch_story
from .sealing import load
from .story_words import Story, Teller, minute, number, span


@dataclass(frozen=True, slots=True)
class Moment:
    """One step of a story.

    Attributes:
        at: When.
        title: What happened, in a few words.
        details: The evidence, a line each.
        actor: Who did it.
    """

    at: datetime
    title: str
    details: tuple[str, ...]
    actor: str


def timeline(entries: Iterable[Entry], job_id: str) -> tuple[Moment, ...]:
    """Tell the story of one job.

    Args:
        entries: The whole stream of its model, in order.
        job_id: The job.

    Returns:
        Its moments, oldest first; the look that led to it comes first, and a rollback of its version last.
        Empty when the stream has no such job.
    """
    moments: list[Moment] = []
    version, before = None, None
    batches: list[tuple[Entry, Mapping[str, Any]]] = []
    for entry in entries:
        data = load(entry.data)
        if entry.kind == "canary.batch" and data["job_id"] == job_id:
            batches.append((entry, data))
            continue
        moments += _compared(batches)
        batches = []
        if data.get("job_id") == job_id:
            if entry.kind == "job.opened" and before is not None:
                moments += _told(*before)
            moments += _told(entry, data)
            version = data["version"]["version"] if entry.kind == "promotion.done" else version
        elif entry.kind == "rollback.done" and version is not None and data["withdrawn"] == version:
            moments += _told(entry, data)
            version = None
        before = (entry, data) if entry.kind == "look.changed" else None
    return tuple(_said_once((*moments, *_compared(batches))))


def _said_once(moments: Iterable[Moment]) -> Iterator[Moment]:
    """Leave out the decision's reason where it is told again, word by word, by what follows from it."""
    reason = ""
    for moment in moments:
        kept = [detail.removesuffix(f": {reason}") if reason else detail for detail in moment.details]
        yield replace(moment, details=tuple(detail for detail in kept if detail != reason or not reason))
        if moment.title.startswith(_DECISION):
            reason = moment.details[0]


def _compared(batches: Sequence[tuple[Entry, Mapping[str, Any]]]) -> Iterator[Moment]:
    """Batches of a canary between two steps, told together: there may be hundreds."""
    if batches:
        entry, _ = batches[-1]
        title, details = canary_story.compared([data for _, data in batches])
        yield Moment(datetime.fromisoformat(entry.at), title, tuple(details), entry.actor)


def _told(entry: Entry, data: Mapping[str, Any]) -> Iterator[Moment]:
    tell = _TELLERS.get(entry.kind)
    if tell is not None:
        title, details = tell(data)
        kept = tuple(detail for detail in details if detail)
        yield Moment(datetime.fromisoformat(entry.at), title, kept, entry.actor)


_DECISION = "Decision: "

_HELD = {
    "conflict": "the champion alias is not where the ledger says; a person must settle it",
    "cooldown": "the last job ended too short a time ago",
    "budget": "the jobs of the day are used up",
    "for": "the triggers have not said yes for long enough",
}


def held_text(reason: str, until: datetime | None, flapping: bool = False) -> str:
    """Say why nothing is started though the triggers want it, and until when.

    Args:
        reason: The reason for suppression; a new one is told by its name alone.
        until: When it ends by itself; ``None`` when that cannot be said.
        flapping: Whether the answers change too fast to last.
    """
    means = "the triggers change their mind too fast" if flapping and reason == "for" else _HELD.get(reason)
    because = f"{reason} ({means})" if means else reason
    return f"{because} until {until.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if until else because


def _looked(data: Mapping[str, Any]) -> Story:
    told = [
        f"{name}: {verdict['answer']} ({verdict['reason']})" for name, verdict in data["verdicts"].items()
    ]
    if data["suppressed"]:
        until = datetime.fromisoformat(data["until"]) if data.get("until") else None
        told.append(f"held back by {held_text(data['suppressed'], until, data.get('flapping', False))}")
    if data.get("looks"):
        least = "at least " if data.get("looks_lost") else ""
        told.append(f"{least}{data['looks']} looks since the one before, {data.get('changes', 0)} changes")
    return "Triggers looked at", told


def _missed(data: Mapping[str, Any]) -> Story:
    spent = f"{minute(data['first'])} to {minute(data['last'])}"
    return f"{data['count']} cron slots got no job", [spent, f"missed_slots = {data['policy']}"]


def _requested(data: Mapping[str, Any]) -> Story:
    parameters = ", ".join(f"{name}={value}" for name, value in data["parameters"].items())
    return "Retraining asked for", [data["reason"], f"with {parameters}" if parameters else ""]


def _opened(data: Mapping[str, Any]) -> Story:
    champion = data["champion"]["version"] if data["champion"] else "none"
    return f"Job opened ({data['trigger_type']})", [
        data["reason"],
        f"training rows {span(data['training_window'])}",
        f"holdout rows {span(data['holdout_window'])}",
        f"champion: version {champion}; settings {data['policy'][:12]}",
    ]


def _submitted(data: Mapping[str, Any]) -> Story:
    sides = [
        f"{name}: {data[name]['rows']} rows{_unlabelled(data[name])}, SHA-256 {data[name]['sha256'][:12]}"
        for name in ("training", "holdout")
    ]
    power = data.get("power")  # 0.2.0 did not write it
    return f"Training submitted (attempt {data['attempt']})", [*sides, power["text"] if power else ""]


def _unlabelled(snapshot: Mapping[str, Any]) -> str:
    left_out = snapshot.get("unlabelled")  # 0.2.0 did not count them
    return f" ({left_out} more have no label)" if left_out else ""


def _ended(data: Mapping[str, Any]) -> Story:
    seconds = f" after {data['seconds']:.1f} s" if data["seconds"] is not None else ""
    tail = data["log_tail"].strip().splitlines()[-5:] if data["state"] != "succeeded" else []
    return f"Training {data['state']}{seconds}", [data["reason"], _where(data), *tail]


def _where(data: Mapping[str, Any]) -> str:
    """On what it ran, and what that has cost, where somebody said so."""
    nodes, cost = data.get("nodes"), data.get("cost")  # 0.2.0 did not write them
    parts = [f"on {nodes} nodes" if nodes else "", f"cost {cost:.2f}" if cost is not None else ""]
    return ", ".join(filter(None, parts))


def _found(data: Mapping[str, Any]) -> Story:
    version = data["version"]
    return f"Candidate: version {version['version']}", [f"artefact SHA-256 {version['digest'][:12]}"]


def _validated(data: Mapping[str, Any]) -> Story:
    result = data["validation"]
    champion = result["champion_metrics"] or {}
    scores = [
        f"{name}: {number(value)} (champion {number(champion.get(name))})"
        if champion
        else f"{name}: {number(value)}"
        for name, value in result["metrics"].items()
        if value is not None or champion.get(name) is not None
    ]
    verdict = result["verdict"]
    head = f"Validated on {result['rows']} rows: {verdict['answer']}"
    untold = [f"{name}: not compared, {why}" for name, why in result.get("untold", {}).items()]
    guarded = [_guarded(name, each) for name, each in result.get("guardrails", {}).items()]
    hashed = f"validation hash {result['validation_hash'][:12]}"
    unscored = [result["unscored"]] if result.get("unscored") else []  # 0.2.0 did not write it
    return head, [verdict["reason"], *unscored, *scores, *untold, *guarded, hashed]


def _guarded(name: str, guardrail: Mapping[str, Any]) -> str:
    """A guardrail in a line: what was found, what was asked for, and whether it is kept."""
    verdict, limit = guardrail["verdict"], guardrail["limit"]
    asked = f"{name}, {limit}: {_KEPT[verdict['answer']]}" if limit else f"{name}, no limit"
    return f"guardrail {asked}: {verdict['reason']}"


_KEPT = {"yes": "kept", "no": "broken", "unknown": "unknown"}


def _awaited(data: Mapping[str, Any]) -> Story:
    needed = data.get("approvals", 1)  # older releases knew no more
    whom = "a person" if needed == 1 else f"{needed} different people"
    return f"Waits for {whom} until {minute(data['until'])}", [data["reason"]]


def _approved(data: Mapping[str, Any]) -> Story:
    asked = data["min_improvement"]
    return "Approved", [data["reason"], "" if asked is None else f"if it improves by {asked:+.2%}"]


def _rejected(data: Mapping[str, Any]) -> Story:
    return "Rejected", [data["reason"]]


def _cancelled(data: Mapping[str, Any]) -> Story:
    return "Cancelling asked for", [data["reason"]]


def _decided(data: Mapping[str, Any]) -> Story:
    return f"{_DECISION}{data['outcome']} ({data['rule']})", [data["reason"], *_tested(data["numbers"])]


def _tested(numbers: Mapping[str, Any]) -> list[str]:
    """What a test of a claim used up, and what else a reader of its interval should know."""
    if "level" not in numbers or "decision" not in numbers:
        return []
    spent = (
        f"decision {numbers['decision']} of {numbers['quarter']}: level {numbers['level']:.2g} of an error "
        f"rate of {numbers['alpha']:g} ({numbers['spending']})"
    )
    dependence = numbers.get("dependence") or 1.0
    return [
        spent,
        f"p = {numbers['p']:.2g}" if "p" in numbers else "",
        f"rows depend on one another over about {dependence:.0f} rows" if dependence >= 1.5 else "",
        f"{numbers['reused']:.0%} of the holdout served earlier decisions" if numbers["reused"] else "",
        *(
            f"{name}: {number(each['champion'])} -> {number(each['candidate'])} on {each['rows']} rows: "
            f"{each['verdict']}"
            for name, each in numbers.get("segments", {}).items()
        ),
    ]


def _promoting(data: Mapping[str, Any]) -> Story:
    return f"Promotion of version {data['version']['version']} begun", _account(data, data["expected"])


def _promoted(data: Mapping[str, Any]) -> Story:
    return f"Version {data['version']['version']} serves", _account(data, data["before"])


def _stalled(data: Mapping[str, Any]) -> Story:
    return "Waits for the world" if data["reason"] else "Goes on", [data["reason"]]


def _closed(data: Mapping[str, Any]) -> Story:
    return f"Job {data['status']}", [data["reason"]]


def _rolled_back(data: Mapping[str, Any]) -> Story:
    return f"Rolled back to version {data['target']['version']}", _account(data, data["withdrawn"])


def _account(data: Mapping[str, Any], before: str | None) -> list[str]:
    """Who moved the champion, why, and under which settings; as far as an older release wrote it down."""
    who, why, policy = (data.get(name, "") for name in ("who", "why", "policy"))
    said = f"{who}: {why}" if why else who
    return [f"in place of {before or 'none'}", said, f"settings {policy[:12]}" if policy else ""]


_TELLERS: Mapping[str, Teller] = {
    "look.changed": _looked,
    "slots.missed": _missed,
    "request.start": _requested,
    "job.opened": _opened,
    "run.intended": _submitted,
    "run.ended": _ended,
    "candidate.found": _found,
    "job.validated": _validated,
    "approval.awaited": _awaited,
    "request.approve": _approved,
    "request.reject": _rejected,
    "request.cancel": _cancelled,
    "job.decided": _decided,
    "promotion.intended": _promoting,
    "promotion.done": _promoted,
    "job.stalled": _stalled,
    "job.closed": _closed,
    "rollback.done": _rolled_back,
    **canary_story.TELLERS,
    **watch_story.TELLERS,
}
