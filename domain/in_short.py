"""A job in short, as a person would tell it: what was asked and measured, why, and what would change it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from statistics import NormalDist
from typing import Any

from ..ports.scorer import DIRECTIONS, Scale
from .claims import Claim, Kind, detectable, rows_needed, told
from .jobs import JobStatus, RetrainingJob
from .promotion import (
    APPROVAL,
    FIRST_CHAMPION,
    IMPROVEMENT,
    MOST_HOLDOUT_DAYS,
    NON_INFERIORITY,
    SAFETY,
    SEED_POINT,
    SUPERIORITY,
    Decision,
    Outcome,
    is_tested,
    out_of_reach,
)
from .trigger_types import TriggerType

_POWERED = NormalDist().inv_cdf(0.8)
"""Standard errors by which a true value lies above what is measured of it in one try of five."""

_CLAIMS = (SUPERIORITY, NON_INFERIORITY, IMPROVEMENT)


def in_short(job: RetrainingJob) -> dict[str, str]:
    """Explain a job, from its own values alone.

    Args:
        job: The job.

    Returns:
        Sentences by their heading, in the order in which one would tell them; what cannot be said yet, or
        does not apply, is left out.
    """
    told_of = {
        "Why it began": _began(job),
        "Compared": _compared(job),
        "Measured": _measured(job),
        "Asked for": _asked(job),
        "Segments": _segments(job),
        "Outcome": _outcome(job),
        "What would change it": "; or ".join(_changes(job)),
    }
    return {heading: text for heading, text in told_of.items() if text}


def _began(job: RetrainingJob) -> str:
    when = f"on {_minute(job.created_at)}"
    if job.trigger_type is TriggerType.MANUAL:
        who = job.evidence.get("actor", "somebody")
        return f"{who} asked for it {when}" + (f": {job.reason}" if job.reason else "")
    return f"{job.reason} ({job.trigger_type.value.replace('_', ' ')}), {when}"


def _compared(job: RetrainingJob) -> str:
    if job.candidate is None or job.validation is None:
        return ""
    window, rows = job.holdout_window, job.validation.rows
    on = f"{rows} labelled rows of {_minute(window.start)} to {_minute(window.end)}"
    new = f"version {job.candidate.version}, trained in this job"
    if job.champion is None:
        return f"{new}, with nothing, since no version served; on {on}"
    if job.validation.unscored:
        return f"{new}, with nothing: {job.validation.unscored}; on {on}"
    return f"{new}, with version {job.champion.version}, which served; on the same {on}"


def _numbers(job: RetrainingJob) -> Mapping[str, Any]:
    """What the decision was made on; for a person's, what they had in view as well."""
    proposed = job.proposal.numbers if job.proposal else {}
    return {**proposed, **(job.decision.numbers if job.decision else {})}


def _measured(job: RetrainingJob) -> str:
    numbers = _numbers(job)
    new, old = numbers.get("candidate"), numbers.get("champion")
    if new is None:
        return job.validation.verdict.reason if job.validation else ""
    if old is None:
        floor = f"; {job.validation.verdict.reason}" if job.validation else ""
        return f"{numbers['metric']} {new:.4f}{floor}"
    text = f"{numbers['metric']} {new:.4f} against {old:.4f}"
    if "effect" in numbers:
        effect, low, high = (told(numbers[each], numbers["scale"]) for each in ("effect", "low", "high"))
        text += f": {effect}, which may be anything between {low} and {high}{_doubt(numbers)}"
    elif numbers.get("improvement") is not None:
        text += f": {numbers['improvement']:+.2%}"
    return text + _worse_is_more(numbers)


def _worse_is_more(numbers: Mapping[str, Any]) -> str:
    direction = numbers.get("direction") or DIRECTIONS.get(numbers["metric"])
    return " (less is better)" if direction == "down" else ""


def _doubt(numbers: Mapping[str, Any]) -> str:
    """How sure the bounds are, and by what they were found."""
    level = numbers.get("level")
    wrong = f"; each bound is wrong once in {1 / level:,.0f} times" if level else ""
    return f"{wrong} ({numbers['units']} {numbers['unit']})"


def _asked(job: RetrainingJob) -> str:
    """The rule, in words. Nothing for what no rule was applied to."""
    numbers, rule = _numbers(job), _rule(job)
    if rule in _CLAIMS and "claim" in numbers:
        words = _claim_words(rule, numbers)
        by_hand = "" if _is_by_rule(job) else "a person's decision; the rule would have asked "
        return f"{by_hand}{words} ({rule}){_spent(numbers)}"
    if rule == SEED_POINT and numbers.get("min_improvement") is not None:
        return f"to be measured better by {100 * numbers['min_improvement']:g} %, as a point ({rule})"
    return {
        APPROVAL: f"a person's decision; the floor holds whatever they say ({APPROVAL})",
        FIRST_CHAMPION: f"a first version has to reach the floor ({FIRST_CHAMPION})",
        SAFETY: f"what stands above every policy ({SAFETY})",
    }.get(rule, "")


def _rule(job: RetrainingJob) -> str:
    """The rule that decided, or that a person had in view."""
    said = job.decision or job.proposal
    rule = said.rule if said else ""
    return str(_numbers(job).get("would_be", {}).get("rule", rule)) if rule == APPROVAL else rule


def _is_by_rule(job: RetrainingJob) -> bool:
    return job.proposal is None


def _claim_words(rule: str, numbers: Mapping[str, Any]) -> str:
    sure = {
        SUPERIORITY: f"to be measured {numbers['claim']}, and surely better at all",
        NON_INFERIORITY: f"to be surely {numbers['claim']}",
        IMPROVEMENT: "to be surely better at all",
    }
    return sure[rule]


def _spent(numbers: Mapping[str, Any]) -> str:
    if "decision" not in numbers or "level" not in numbers:
        return ""
    nth = f"decision {numbers['decision']} of {numbers['quarter']}"
    return f", at {numbers['level']:.2g} of the quarter's error rate of {numbers['alpha']:g}: {nth}"


def _segments(job: RetrainingJob) -> str:
    told_of = [
        f"{name} {each['champion']:.4f} -> {each['candidate']:.4f} ({each['rows']} rows): {each['verdict']}"
        for name, each in _numbers(job).get("segments", {}).items()
    ]
    untold = job.validation.untold if job.validation else {}
    return "; ".join([*told_of, *(f"{name}: not compared, {why}" for name, why in untold.items())])


# -- the outcome --------------------------------------------------------------------------------------------


def _outcome(job: RetrainingJob) -> str:
    if job.is_open:
        return _open(job)
    if job.status is not JobStatus.COMPLETED:
        return f"{job.status.value}: {job.outcome}"
    decision = job.decision
    stays = f"version {job.champion.version} stays" if job.champion else "no version serves"
    if decision is None:
        return f"not promoted, {stays}: {job.outcome}"
    why = _because(decision) or decision.reason
    if job.deployed and job.candidate:
        back = f"; taken back on {_minute(job.rolled_back_at)}" if job.rolled_back_at else ""
        return (
            f"promoted, version {job.candidate.version} serves from {_minute(job.deployed_at)}{back}: {why}"
        )
    word = "rejected" if decision.outcome is Outcome.REJECT else "inconclusive"
    return f"{word}, {stays}: {why}"


def _open(job: RetrainingJob) -> str:
    if not job.waits_for_person or job.awaiting_until is None:
        return ""
    who = " and ".join(each.actor for each in job.approvals)
    so_far = f", {who} approved already" if who else ""
    people = "a person" if job.approvals_needed == 1 else f"{job.approvals_needed} different people"
    return f"waits for {people} until {_minute(job.awaiting_until)}{so_far}; then it ends undeployed"


def _because(decision: Decision) -> str:
    """Why the interval led to the outcome; empty where something else decided, which the reason tells."""
    numbers = decision.numbers
    if not is_tested(decision) or decision.outcome is not _of_interval(numbers):
        return ""
    scale, bar, least = numbers["scale"], numbers["bar"], numbers["least"]
    if unreachable := _out_of_reach(decision):
        return unreachable
    effect, low, high = (told(numbers[each], scale) for each in ("effect", "low", "high"))
    match decision.outcome:
        case Outcome.PROMOTE:
            measured = f"{effect} is at least {_plain(bar, scale)}, and " if bar > least else ""
            return f"{measured}even the lower bound, {low}, is above {_plain(least, scale)}"
        case Outcome.REJECT:
            return f"even the upper bound, {high}, does not reach {_plain(bar, scale)}"
        case _ if numbers["effect"] < bar:
            return f"{effect} does not reach {_plain(bar, scale)}, but it may be as much as {high}"
    return f"{effect} would do, but it may be as little as {low}"


def _out_of_reach(decision: Decision, effect: float | None = None) -> str:
    """Why no candidate can show an effect, or the one asked for; empty when one can."""
    numbers = decision.numbers
    if decision.rule != SUPERIORITY or numbers["scale"] != "relative":
        return ""
    least = numbers["bar"] if effect is None else effect
    return out_of_reach(numbers["metric"], numbers["champion"], least)


def _plain(effect: float, scale: Scale) -> str:
    return told(effect, scale) if effect else "0"


def _of_interval(numbers: Mapping[str, Any]) -> Outcome:
    """What the interval alone says."""
    if numbers["effect"] >= numbers["bar"] and numbers["p"] < numbers["level"]:
        return Outcome.PROMOTE
    return Outcome.REJECT if numbers["high"] <= numbers["bar"] else Outcome.INCONCLUSIVE


# -- what would change it -----------------------------------------------------------------------------------


def _changes(job: RetrainingJob) -> Iterator[str]:
    decision = job.decision
    if job.is_open and job.waits_for_person:
        yield f"autoretrain approve {job.job_id[:8]}, or reject it"
    if job.is_open or job.deployed or job.status is not JobStatus.COMPLETED:
        return
    if decision is None:
        yield f"a person's answer in time; autoretrain start {job.model_name} begins anew"
    elif decision.rule in _CLAIMS and is_tested(decision):
        yield from _of_claim(job, decision)
    elif decision.rule == SEED_POINT and decision.numbers.get("improvement") is not None:
        least = decision.numbers["min_improvement"]
        yield f"a candidate that is measured better by {100 * least:g} % or more"
    elif decision.rule == SAFETY and job.validation is not None and job.validation.verdict.is_no:
        yield "a candidate at or above the floor"


def _of_claim(job: RetrainingJob, decision: Decision) -> Iterator[str]:
    if decision.outcome is _of_interval(decision.numbers):
        yield from _more_rows(job, decision)
        yield from _a_better_one(job, decision)
    elif any(each["verdict"] in ("worse", "open") for each in decision.numbers.get("segments", {}).values()):
        yield "a candidate that is no worse in these segments"


def _more_rows(job: RetrainingJob, decision: Decision) -> Iterator[str]:
    """How many rows would tell, and when they are there at the rate at which labels come."""
    result, numbers = job.validation, decision.numbers
    if decision.outcome is not Outcome.INCONCLUSIVE or result is None or result.paired is None:
        return
    claim, level = _claim(decision), _next_level(numbers)
    effect = result.paired.effects.get(claim.scale)
    needed = rows_needed(claim, result.paired, effect, level) if effect else None
    if needed is None:
        yield "no number of rows, with a difference like this"
        return
    text = f"about {needed} rows ({result.rows} were there)"
    stricter = f"the next decision of {numbers['quarter']} is judged at {level:.2g}, this one was at "
    days = job.holdout_window.length / timedelta(days=1)
    if days and result.rows:
        text += _when(job, needed / (result.rows / days))
    yield f"{text} ({stricter}{numbers['level']:.2g})"


def _when(job: RetrainingJob, days: float) -> str:
    """From when on a holdout so long is there: it begins no earlier than the champion's training ended."""
    trained_on = job.champion.trained_on if job.champion else None
    there = trained_on.end + timedelta(days=days) if trained_on else job.holdout_window.end
    if days > MOST_HOLDOUT_DAYS:
        return f", more than {MOST_HOLDOUT_DAYS} days have, the longest holdout"
    longer = f": holdout_days = {math.ceil(days)}"
    if there <= job.holdout_window.end:
        return f"{longer}, and they are there already"
    return f"{longer}, and at this rate of labels they are there about {there:%Y-%m-%d}"


def _a_better_one(job: RetrainingJob, decision: Decision) -> Iterator[str]:
    """How much better a candidate has to be for such a holdout to show it."""
    result = job.validation
    if result is None or result.paired is None:
        return
    claim, pair = _claim(decision), result.paired
    shows = detectable(claim, pair, pair.rows, _next_level(decision.numbers))
    if shows is None:
        return
    # To be measured so good in four tries of five, it has to be truly better than what is to be measured.
    least = max(shows, claim.bar + _POWERED * pair.effects[claim.scale].error)
    if _out_of_reach(decision, least):
        return
    such = "such a holdout shows in four tries of five"
    yield f"a candidate that is truly at {told(least, claim.scale)} or better, which {such}"


def _claim(decision: Decision) -> Claim:
    numbers, kind = decision.numbers, Kind(decision.rule)
    return Claim(kind, abs(numbers["bar"]), numbers["scale"])


def _next_level(numbers: Mapping[str, Any]) -> float:
    """The level of the next decision, if it falls into the same quarter."""
    following = numbers["decision"] + 1
    level: float = numbers["alpha"] / (following * (following + 1))
    return level


def _minute(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC" if at else "unknown"
