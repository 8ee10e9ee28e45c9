"""The fold: the state of a model is its stream, read. So the audit trail cannot differ from what happened.

Entries hold facts, never instructions. Kinds, with what their data says:

    model.enrolled        the model is watched from now on
    champion.adopted      a version that somebody else let serve is taken as the champion
    champion.conflict     the alias points elsewhere than the ledger says
    champion.restored     it points where the ledger says again
    champion.below_floor  the champion was measured below the floor
    champion.above_floor  and is so no more
    look.changed          verdicts of the triggers, or the reason for doing nothing, are others than before
    slots.missed          cron slots that get no job: how many, which, by what policy
    unknown.lasting       a trigger has been unknown for so long that somebody should know
    request.*             a person's act: start, approve, reject, cancel, rollback, override
    job.opened            a retraining begins: trigger, evidence, windows, policy
    run.intended          snapshots are taken; a training attempt is about to be submitted
    run.ended             how that attempt ended
    candidate.found       the version it produced
    job.validated         both versions' measures on the holdout
    approval.awaited      the candidate waits for a person
    job.decided           promote, reject or inconclusive, with rule and numbers
    promotion.intended    the alias is about to be moved
    promotion.done        the alias points at the candidate
    job.stalled           a part of the world is away and the job waits; without a reason, that it is back
    job.closed            the end of a job
    canary.began          a candidate is about to get its first share of the traffic: the whole plan
    canary.step           it is about to get its next share
    canary.applied        that share is in force, from now on
    canary.batch          what both arms got over one window, or why they cannot be compared
    canary.held           a step does not end though its least time is over
    canary.conflict       somebody else changed how the traffic is shared
    canary.passed         all steps were gone through
    canary.ended          its split is about to be taken back: how the job ends then, and why
    canary.cleared        it is taken back, or what somebody else left in its place
    split.stray           a split of a job that has ended is in force, and about to be taken back
    split.cleared         it is
    rollback.intended     the alias is about to be moved back
    rollback.stalled      the registry is away and the rollback waits
    rollback.skipped      the version to go back to cannot serve any more; the next one before it is taken
    rollback.done         it points at the earlier version; the withdrawn one is quarantined
    rollback.failed       it could not be moved back
    watch.begun           the live metric of a promoted version is compared from now on; the terms
    watch.batch           one batch of it is known, and what all of them show
    watch.missed          one batch stayed unknown, and why
    watch.ended           harm, kept, unknown or stopped; any other champion ends a watch, too

Each of promotion.intended, promotion.done, rollback.intended and rollback.done says ``who`` decided it (a
person, or the controller by its policy), ``why``, which version served ``before``, and the ``policy``: the
digest of the settings under which it was decided. Version 0.1.0 did not write all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from itertools import islice

from ..ports.errors import Permanent
from ..ports.ledger import ENTRY_VERSION, Entry
from . import canary_entries, champion_entries, job_entries, look_entries, watch_entries
from .fold_step import Line, Step
from .sealing import Head
from .state import ModelState

SLOT_KEY = "slot:"
"""Entries that settle a cron slot are keyed by it: ``slot:2026-03-01T00:00:00+00:00``."""

RECENT_JOBS = 5
"""Jobs of a model that a process which runs for months remembers; the ledger knows the others."""


def fold(
    model: str,
    entries: Iterable[Entry],
    state: ModelState | None = None,
    *,
    keep_jobs: int | None = None,
) -> ModelState:
    """Add entries to a state.

    Args:
        model: Name of the model.
        entries: Entries that follow the state's head, in order.
        state: What was folded before; ``None`` starts at the beginning of the stream.
        keep_jobs: Leave out ended jobs but for so many of the latest, at least one; ``None`` keeps all. No
            entry speaks of an ended job again but a rollback, which does without it.

    Returns:
        The state after the last entry.

    Raises:
        Permanent: An entry is of a newer version or kind than this program knows.
        IllegalTransition: An entry would move a job against the table.
    """
    state = state or ModelState(model)
    for entry in entries:
        state = _apply(state, entry)
        if keep_jobs is not None and len(state.jobs) > keep_jobs:
            state = _without_oldest(state, len(state.jobs) - keep_jobs)
    return state


def _without_oldest(state: ModelState, count: int) -> ModelState:
    """Leave out the oldest jobs. The open one is the latest, so it stays."""
    kept = dict(islice(state.jobs.items(), count, None))
    return replace(state, jobs=kept, earlier_jobs=state.earlier_jobs + count)


def _apply(state: ModelState, entry: Entry) -> ModelState:
    step = _STEPS.get(entry.kind)
    if step is None or entry.v > ENTRY_VERSION:
        raise Permanent(
            f"{state.model}: entry {entry.seq} ({entry.kind}, version {entry.v}) is newer than this program; "
            "upgrade autoretrain"
        )
    state = replace(
        state, head=Head(entry.chain, entry.seq, entry.hash), last_slot=_last_slot(state.last_slot, entry.key)
    )
    return step(state, Line.of(entry))


def _last_slot(known: datetime | None, key: str | None) -> datetime | None:
    """The slot that a key names. Keys of a stream are unique, and slots are settled in the order of time."""
    named = key is not None and key.startswith(SLOT_KEY)
    return datetime.fromisoformat(key.removeprefix(SLOT_KEY)) if key and named else known


_STEPS: Mapping[str, Step] = {
    **look_entries.STEPS,
    **champion_entries.STEPS,
    **job_entries.STEPS,
    **canary_entries.STEPS,
    **watch_entries.STEPS,
}
"""What each kind of entry does, by the rooms that hold what it is done to; no kind is in two of them."""

KINDS = frozenset(_STEPS)
"""Every kind of entry this version writes and reads."""
