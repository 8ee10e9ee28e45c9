"""The rules that never bend, as functions over what a world holds afterwards.

Each takes a model's ``History`` (its stream, replayed) and the ``Record`` of what took effect outside the
ledger, and raises ``AssertionError`` naming the rule that was broken. They are written against entries and
effects, not against the decisions' own code, so that they can contradict it.

Rules 1, 2, 7 and 8 and those of time stand here; 3 to 5 in ``promotion_rules``, 6 in ``people_rules``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Literal

from ...domain.idle import champion_label
from ...domain.jobs import TRANSITIONS
from ...domain.notices import notices_of
from ...domain.schedule import count_slots
from ...domain.sealing import verify
from ...ports.ledger import Entry
from ...ports.outbox import Outbox
from .canary_rules import canaries_are_cleared, canaries_come_first, shares_are_intended
from .history import History, Record
from .people_rules import enough_people_approved, foreign_champions_are_respected, withdrawn_stays_away
from .promotion_rules import only_proven_promotions, same_rows, unknown_never_passes


def check_world(histories: Sequence[History], record: Record, outbox: Outbox) -> None:
    """Check every rule.

    Raises:
        AssertionError: One is broken; names it.
    """
    for history in histories:
        one_open_job(history)
        one_promotion_a_job(history)
        moves_are_intended(history, record)
        slots_are_used_once(history)
        moves_along_the_table(history)
        only_proven_promotions(history)
        enough_people_approved(history)
        alarms_of_the_floor_alternate(history)
        same_rows(history, record)
        unknown_never_passes(history)
        withdrawn_stays_away(history)
        foreign_champions_are_respected(history)
        chain_holds(history)
        slots_are_settled_once(history)
        moves_are_accounted_for(history)
        shares_are_intended(history, record)
        canaries_come_first(history)
        canaries_are_cleared(history)
    runs_start_once(record)
    notices_arrive(histories, record, outbox)


# -- rule 1 -------------------------------------------------------------------------------------------------


def one_open_job(history: History) -> None:
    """At most one open job a model, by the entries alone."""
    is_open: set[str] = set()
    for step in history.of_kind("job.opened", "job.closed"):
        job_id = step.data["job_id"]
        if step.entry.kind == "job.closed":
            is_open.remove(job_id)
            continue
        assert not is_open, f"rule 1: job {job_id} was opened while {is_open} was open"
        is_open.add(job_id)


def one_promotion_a_job(history: History) -> None:
    """A job is promoted at most once, after it was intended, and one run of it is accepted at most."""
    seen: Counter[tuple[str, str]] = Counter()
    for step in history.of_kind("candidate.found", "job.decided", "promotion.intended", "promotion.done"):
        kind, job_id = step.entry.kind, step.data["job_id"]
        seen[kind, job_id] += 1
        assert seen[kind, job_id] == 1, f"rule 1: {kind} twice for job {job_id}"
        if kind == "promotion.done":
            assert seen["promotion.intended", job_id], f"rule 1: job {job_id} was promoted unintended"


def moves_are_intended(history: History, record: Record) -> None:
    """Every move of the alias by a controller is one that the ledger intends, and happens once.

    Somebody else may move the alias back in between; it cannot be told from a move that never happened.
    """
    intents: list[tuple[str | None, str]] = [
        (step.data["expected"], step.data.get("version", step.data.get("target"))["version"])
        for step in history.of_kind("promotion.intended", "rollback.intended")
    ]
    used: list[tuple[str | None, str | None]] = []
    for move in (move for move in record.moves if move.model == history.spec.name):
        intent = (move.before, move.after)
        assert intent in intents or not move.ours, f"rule 1: {move} was never intended"
        if not move.ours or move.late:
            used = [intent for intent in used if intent[0] != move.after]
            continue
        assert used.count(intent) < intents.count((move.before, str(move.after))), f"rule 1: {move} twice"
        used.append(intent)


def slots_are_used_once(history: History) -> None:
    """No cron slot leads to two jobs, and none after a later one, whatever the clock does."""
    last = ""
    for slot in (step.data["slot"] for step in history.of_kind("job.opened")):
        assert slot is None or slot > last, f"the slot {slot} led to a job after that of {last}"
        last = slot or last


def runs_start_once(record: Record) -> None:
    """A compute backend starts every key once, whoever asks however often."""
    twice = {key: times for key, times in record.started.items() if times > 1}
    assert not twice, f"rule 1: runs were started more than once: {twice}"


# -- rule 2 -------------------------------------------------------------------------------------------------


def moves_along_the_table(history: History) -> None:
    """A job moves only along the table; after its end only a rollback is noted on it."""
    for step in history.steps:
        for job_id, before in step.before.jobs.items():
            after = step.after.jobs[job_id]
            if after.status is not before.status:
                legal = after.status in TRANSITIONS[before.status]
                assert legal, f"rule 2: job {job_id} went from {before.status} to {after.status}"
            elif before.status.final:
                kept = replace(after, rolled_back_at=before.rolled_back_at)
                assert kept == before, f"rule 2: entry {step.entry.seq} changed the ended job {job_id}"


# -- the floor ----------------------------------------------------------------------------------------------


def alarms_of_the_floor_alternate(history: History) -> None:
    """A champion below the floor is told of once, and its end only after that."""
    for step in history.of_kind("champion.below_floor", "champion.above_floor"):
        begins, goes_on = step.entry.kind == "champion.below_floor", step.before.below_floor is not None
        assert begins != goes_on, f"entry {step.entry.seq}: {step.entry.kind} out of turn"
        assert (step.data["value"] < step.data["floor"]) == begins, f"entry {step.entry.seq}: {step.data}"


# -- rule 7 -------------------------------------------------------------------------------------------------


def notices_arrive(histories: Sequence[History], record: Record, outbox: Outbox) -> None:
    """Every notice has a stable id of its own, and has arrived, waits, or is a dead letter."""
    due = [
        n for history in histories for step in history.steps for n in notices_of(step.before, [step.entry])
    ]
    assert len({notice.id for notice in due}) == len(due), "rule 7: two events share a notice's id"
    ids = Counter(notice.id for notice in record.notices)
    assert ids == Counter(notice.id for notice in due), "rule 7: the outbox got others than the ledger tells"
    far = max((notice.at for notice in due), default=None)
    if far is None:
        return
    waiting = {outgoing.notice.id for outgoing in outbox.due(far.replace(year=far.year + 100), limit=10**6)}
    dead = {outgoing.notice.id for outgoing in outbox.dead_letters()}
    lost = [n for n in due if n.id not in waiting | dead and not record.delivered[n.id]]
    assert not lost, f"rule 7: lost: {lost}"


# -- rule 8 -------------------------------------------------------------------------------------------------


def chain_holds(history: History) -> None:
    """An untouched stream has no fault."""
    fault = verify(history.spec.name, history.entries)
    assert fault is None, f"rule 8: {fault}"


def moves_are_accounted_for(history: History) -> None:
    """Every promotion and rollback says who, why, which version served before, and under which policy."""
    for step in history.of_kind("promotion.intended", "promotion.done", "rollback.intended", "rollback.done"):
        name = f"rule 8: entry {step.entry.seq} ({step.entry.kind})"
        assert step.data["who"], f"{name} names nobody"
        assert isinstance(step.data["why"], str), f"{name} gives no reason"
        assert len(step.data["policy"]) == 64, f"{name} names no policy"
        assert step.data["before"] == champion_label(step.before.champion), f"{name} names another champion"


def check_tampering(
    model: str, entries: Sequence[Entry], at: int, how: Literal["edit", "remove", "reorder"]
) -> None:
    """Damage a copy of a stream, and see that the first bad entry is named.

    Args:
        model: Name of the model.
        entries: The stream; at least two entries.
        at: Index of the entry to damage, below the last for a removal or a swap.
        how: Edit it, remove it, or swap it with the next one.

    Raises:
        AssertionError: The damage was not found, or another entry named.
    """
    damaged = list(entries)
    match how:
        case "edit":
            damaged[at] = replace(damaged[at], data=damaged[at].data + " ")
            first = damaged[at]
        case "remove":
            del damaged[at]
            first = damaged[at]
        case "reorder":
            damaged[at], damaged[at + 1] = damaged[at + 1], damaged[at]
            first = damaged[at]
    fault = verify(model, damaged)
    assert fault is not None, f"rule 8: {how} at {at} was not found"
    assert fault.seq == first.seq, f"rule 8: {how} at {at}: entry {fault.seq} was named, not {first.seq}"


# -- time ---------------------------------------------------------------------------------------------------


def slots_are_settled_once(history: History) -> None:
    """Every cron slot since the enrolment has one job or is counted as missed, in order.

    So that none comes twice and none is forgotten, whatever the clocks did. Under the settings as they are.
    """
    trigger, settled = history.spec.trigger, None
    for step in history.of_kind("model.enrolled", "slots.missed", "job.opened"):
        data = step.data
        if step.entry.kind == "model.enrolled":
            settled = datetime.fromisoformat(step.entry.at)
            continue
        slot = data["slot"] if step.entry.kind == "job.opened" else data["last"]
        if slot is None:
            continue
        until, begin = datetime.fromisoformat(slot), datetime.fromisoformat(data.get("first", slot))
        assert settled is not None, "time: a slot before the enrolment"
        assert settled < begin, f"time: the slot of {begin} comes twice"
        number = count_slots(trigger.schedule_expression, trigger.time_zone, settled, until)
        assert number == data.get("count", 1), f"time: {number} slots up to {until}, settled by {data}"
        settled = until
