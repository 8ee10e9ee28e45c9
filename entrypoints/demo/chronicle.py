"""The ledger told in short: what happened to which agent, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ...domain.jobs import JobStatus, RetrainingJob
from ...domain.promotion import APPROVAL, SAFETY
from ...domain.sealing import load
from ...ports.ledger import Entry, Ledger


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the chronicle.

    Attributes:
        at: When.
        agent: Name of the model.
        what: What happened, in a few words.
        why: The reason, with its numbers; empty where there is none to give.
    """

    at: datetime
    agent: str
    what: str
    why: str = ""


class Chronicle:
    """Reads what is new in the ledger.

    Args:
        ledger: Where the streams are.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._read: dict[str, int] = {}
        self._reasons: dict[str, str] = {}
        self.events: list[Event] = []

    def news(self) -> list[Event]:
        """Events since the last call, oldest first; also kept in ``events``."""
        new: list[Event] = []
        for model in self._ledger.models():
            entries = self._ledger.read(model, self._read.get(model, 0))
            if entries:
                self._read[model] = entries[-1].seq
                new += self._told(entries)
        new.sort(key=lambda event: event.at)
        self.events += new
        return new

    def _told(self, entries: Sequence[Entry]) -> list[Event]:
        told = []
        for entry, following in zip(entries, [*entries[1:], None], strict=True):
            data = load(entry.data)
            if entry.kind == "job.decided":
                self._reasons[data["job_id"]] = data["reason"]
            # A look that opened a job has the job's reason.
            if entry.kind == "look.changed" and following is not None and following.kind == "job.opened":
                continue
            tell = _TELLERS.get(entry.kind)
            told_of = tell(data, entry.actor) if tell else None
            if told_of is not None:
                what, why = told_of
                why = why or self._reasons.get(data.get("job_id", ""), "")
                told.append(Event(datetime.fromisoformat(entry.at), entry.model, what, why))
        return told


_Told = tuple[str, str] | None


def _adopted(data: Mapping[str, Any], actor: str) -> _Told:
    return (
        f"champion found: version {data['version']['version']}",
        "somebody let it serve before the watch began",
    )


def _looked(data: Mapping[str, Any], actor: str) -> _Told:
    verdicts = {
        name: verdict
        for name, verdict in data["verdicts"].items()
        if (name, verdict["answer"]) != ("schedule", "no")  # as on most days
    }
    if not verdicts:
        return None
    what = ", ".join(f"{name}: {verdict['answer']}" for name, verdict in verdicts.items())
    if data["suppressed"]:
        what += f", held back by {data['suppressed']}"
    return what, "; ".join(verdict["reason"] for verdict in verdicts.values())


def _asked(data: Mapping[str, Any], actor: str) -> _Told:
    return f"{actor} asks for a training", data["reason"]


def _opened(data: Mapping[str, Any], actor: str) -> _Told:
    if data["trigger_type"] == "manual":
        return None  # told when it was asked for
    return f"retraining ({data['trigger_type'].replace('_', ' ')})", data["reason"]


def _awaited(data: Mapping[str, Any], actor: str) -> _Told:
    return "candidate waits for a person", data["reason"]


def _approved(data: Mapping[str, Any], actor: str) -> _Told:
    return f"{actor} approves", data["reason"]


def _decided(data: Mapping[str, Any], actor: str) -> _Told:
    if data["outcome"] == "promote":
        return None  # told when it serves
    return f"candidate {'rejected' if data['outcome'] == 'reject' else 'undecided'}", data["reason"]


def _promoted(data: Mapping[str, Any], actor: str) -> _Told:
    return f"version {data['version']['version']} serves", ""


def _closed(data: Mapping[str, Any], actor: str) -> _Told:
    if data["status"] == JobStatus.COMPLETED.value:
        return None  # its decision was told
    return f"job {data['status']}", data["reason"]


def _rolled_back(data: Mapping[str, Any], actor: str) -> _Told:
    what = f"rolled back to version {data['target']['version']}; {data['withdrawn']} is quarantined"
    return what, f"{data['who']}: {data['why']}"


def _lasting(data: Mapping[str, Any], actor: str) -> _Told:
    return f"{data['trigger']} stays unknown", data["reason"]


_TELLERS: Mapping[str, Callable[[Mapping[str, Any], str], _Told]] = {
    "champion.adopted": _adopted,
    "look.changed": _looked,
    "request.start": _asked,
    "job.opened": _opened,
    "approval.awaited": _awaited,
    "request.approve": _approved,
    "job.decided": _decided,
    "promotion.done": _promoted,
    "job.closed": _closed,
    "rollback.done": _rolled_back,
    "unknown.lasting": _lasting,
}


def undeployed(jobs: Sequence[RetrainingJob]) -> Counter[str]:
    """Count the ended jobs that did not deploy, by why not."""
    return Counter(_why_not(job) for job in jobs if not job.is_open and not job.deployed)


def _why_not(job: RetrainingJob) -> str:
    decision, validation = job.decision, job.validation
    if decision is None or validation is None:
        return job.status.value
    if decision.rule == APPROVAL:
        return "refused by a person"
    if decision.rule != SAFETY:
        return "not better enough"
    if validation.verdict.is_no:
        return "below the floor"
    if validation.verdict.is_unknown:
        return "not known to be fit"
    return "no change" if validation.identical else "barred"
