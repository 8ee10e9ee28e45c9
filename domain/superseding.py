"""A job that waits for a person, and the newer one that would take its place."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from .idle import decide_idle
from .jobs import RetrainingJob
from .lifecycle import superseded
from .plan import IdleSeen, Phase, Plan, phase_of
from .spec import ModelSpec
from .state import ModelState
from .triggers import Rule


def may_be_superseded(spec: ModelSpec, state: ModelState, now: datetime) -> bool:
    """Whether a trigger may end the waiting of the open job, so that the triggers are to be looked at.

    Not once the waiting is over anyway: what people asked for, and the end of their time, come first.
    """
    job = state.open_job
    if job is None or job.awaiting_until is None or phase_of(state) is not Phase.APPROVAL:
        return False
    undecided = job.waits_for_person and state.start is None and now < job.awaiting_until
    return undecided and spec.promotion.pending == "supersede"


def decide_pending(
    spec: ModelSpec, rule: Rule, state: ModelState, job: RetrainingJob, seen: IdleSeen, now: datetime
) -> Plan:
    """Decide as for an idle model; the waiting job ends in the same append that opens the next one.

    Its cooldown counts from when it began to wait, or the trigger that opened it would end it at once.

    Args:
        spec: The model's settings.
        rule: Its combined trigger.
        state: What the ledger knows.
        job: The job that waits.
        seen: The champion alias and the observations the rule asked for.
        now: Time of the look.
    """
    plan = decide_idle(spec, rule, state, seen, now)
    opened = next((draft for draft in plan.drafts if draft.kind == "job.opened"), None)
    if opened is None:
        until = job.awaiting_until or now
        return replace(plan, look_at=plan.look_at and min(plan.look_at, until))
    closed = superseded(job, opened.data["job_id"], opened.data["reason"])
    return replace(plan, drafts=(closed, *plan.drafts))
