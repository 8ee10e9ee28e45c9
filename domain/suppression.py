"""Why nothing is started though the triggers want a retraining, and until when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from .schedule import day_of
from .spec import ModelSpec
from .state import ModelState
from .triggers import Rule, Situation
from .verdict import Answer, Verdict


@dataclass(frozen=True, slots=True)
class Held:
    """A reason for doing nothing.

    Attributes:
        reason: ``conflict`` (the champion alias is not where the ledger says), ``cooldown``, ``budget`` (the
            model's jobs of the day are used up), ``limit (…)`` (those of the fleet, or of a part of it, are)
            or ``for`` (the verdict has not been yes for long enough).
        until: When it ends by itself; ``None`` when that cannot be said.
    """

    reason: str
    until: datetime | None


def held_back(
    spec: ModelSpec, state: ModelState, now: datetime, by_signals: bool, exhausted: str = ""
) -> Held | None:
    """The reason that no job is opened now.

    Args:
        spec: The model's settings.
        state: What the ledger knows.
        now: Time of the look.
        by_signals: Whether the yes depends on signals, which must last; a cron slot does not waver.
        exhausted: Which limit across models leaves no job today; empty when none does.

    Returns:
        The reason; of several, the one that needs a person, else the one that commonly lasts longest.
        ``None`` when nothing stands in the way.
    """
    return next(_reasons(spec, state, now, by_signals, exhausted), None)


def _reasons(
    spec: ModelSpec, state: ModelState, now: datetime, by_signals: bool, exhausted: str
) -> Iterator[Held]:
    if state.conflict is not None:
        yield Held("conflict", None)
    until, last = cooldown_end(spec, state), state.last_job
    just_ended = last is not None and last.completed_at == now  # without a cooldown, at most one job a look
    if until is not None and (now < until or just_ended):
        yield Held("cooldown", until)
    until = budget_end(spec, state, now)
    if until is not None:
        yield Held("budget", until)
    if exhausted:
        yield Held(f"limit ({exhausted})", day_of("UTC", now)[1])
    confirmed = state.steadiness.confirmed_at(now, timedelta(hours=spec.for_hours))
    if by_signals and (confirmed is None or now < confirmed):
        yield Held("for", confirmed)


def cooldown_end(spec: ModelSpec, state: ModelState) -> datetime | None:
    """Until when no job is opened by a trigger; ``None`` before the first job has ended.

    One that waits for a person has done its work when it began to wait.
    """
    last = state.last_job
    ended = (last.completed_at or last.awaiting_since) if last else None
    return ended + timedelta(hours=spec.cooldown_hours) if ended else None


def budget_end(spec: ModelSpec, state: ModelState, now: datetime) -> datetime | None:
    """When the day ends whose jobs are used up; ``None`` when there may be another today.

    Every job of the day counts, a person's too. So does one that a clock set back makes one of tomorrow.
    """
    if spec.max_jobs_a_day is None:
        return None
    begin, end = day_of(spec.trigger.time_zone, now)
    opened = sum(job.created_at >= begin for job in state.jobs.values())
    return end if opened >= spec.max_jobs_a_day else None


def signal_answer(rule: Rule, verdict: Verdict, situation: Situation) -> Answer:
    """What the signals say for themselves: unknown where a cron slot alone decides.

    A rule that says yes without any observation would say so whatever is observed, since Kleene's logic is
    monotone.
    """
    if verdict.is_yes and rule.judge({}, situation).is_yes:
        return Answer.UNKNOWN
    return verdict.answer
