"""What a holdout can show, told before anything is trained: no candidate passes a gate that cannot see it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ..ports.scorer import Paired
from .claims import Claim, Kind, detectable, told
from .jobs import RetrainingJob
from .judgement import claim_of
from .promotion import SEED_POINT, SUPERIORITY, out_of_reach
from .spec import ModelSpec
from .state import ModelState
from .trigger_types import TriggerType


def foresee(
    spec: ModelSpec, state: ModelState, job: RetrainingJob, rows: int, now: datetime
) -> Mapping[str, Any] | None:
    """Say what the holdout of a job will be able to show.

    How differences between two versions spread is taken from the model's last comparison; the candidate of
    this job is not there yet.

    Args:
        spec: The model's settings.
        state: What the ledger knows.
        job: The job.
        rows: Labelled rows of its holdout.
        now: When it will be decided, as far as is known.

    Returns:
        ``shows`` is the effect, on the claim's ``scale``, that these rows show four times in five; it is
        ``None`` where no earlier comparison says. ``enough`` is whether that lets the claim be shown:
        ``None`` where it is not known. ``text`` says it for people. ``None`` without a champion, and for the
        point rule, which shows nothing.
    """
    policy = spec.promotion.policy_of(job.trigger_type)
    if job.champion is None or policy == SEED_POINT:
        return None
    claim, level = claim_of(spec, policy), state.spending.level(spec.promotion.alpha, now)
    pair = last_comparison(state, spec.comparison)
    shows = None if pair is None else detectable(claim, pair, rows, level)
    enough = None if shows is None else shows <= _wanted(claim)
    return {
        "claim": claim.words,
        "scale": claim.scale,
        "rows": rows,
        "level": level,
        "shows": shows,
        "enough": enough,
        "text": _text(claim, rows, shows, enough),
    }


def last_comparison(state: ModelState, measure: str) -> Paired | None:
    """The latest comparison of two versions of a model by a measure; ``None`` when none is remembered."""
    for job in reversed(state.jobs.values()):
        pair = job.validation.paired if job.validation else None
        if pair is not None and pair.measure == measure:
            return pair
    return None


def champion_score(spec: ModelSpec, state: ModelState) -> float | None:
    """What the champion reached on the holdout it was last scored on; ``None`` when none is remembered."""
    serving = state.champion
    if serving is None:
        return None
    for job in reversed(state.jobs.values()):
        if job.deployed and job.job_id == serving.job_id:
            return (job.metrics_after or {}).get(spec.comparison)
        beside = job.champion is not None and job.champion.version == serving.version.version
        if beside and job.champion_metrics:
            return job.champion_metrics.get(spec.comparison)
    return None


def unreachable_gate(spec: ModelSpec, state: ModelState) -> str:
    """Say so when no candidate could pass the gate as it is set, since the champion is too good for it.

    Args:
        spec: The model's settings.
        state: What the ledger knows.

    Returns:
        Why, and what can be asked for instead; empty when a candidate could pass, or the score is not known.
    """
    score, promotion = champion_score(spec, state), spec.promotion
    policies = {promotion.policy_of(trigger) for trigger in TriggerType if trigger is not TriggerType.MANUAL}
    relative = SEED_POINT in policies or (promotion.scale == "relative" and SUPERIORITY in policies)
    if score is None or not relative:
        return ""
    return out_of_reach(spec.comparison, score, promotion.min_improvement)


def _wanted(claim: Claim) -> float:
    """The smallest effect that the claim is about; any one is better at all, so there none is too small."""
    return {Kind.SUPERIORITY: claim.margin, Kind.NON_INFERIORITY: 0.0}.get(claim.kind, float("inf"))


def _text(claim: Claim, rows: int, shows: float | None, enough: bool | None) -> str:
    if shows is None:
        return f"what {rows} rows can show is not known: there is no earlier comparison to learn it from"
    if claim.kind is Kind.NON_INFERIORITY:
        least = told(shows, claim.scale)
        text = f"{rows} rows show, four times in five, that a candidate of {least} or more is {claim.words}"
        return text if enough else f"{text}; of one that is as good as the champion they cannot"
    least, wanted = (told(value, claim.scale, sign=False) for value in (shows, claim.margin))
    text = f"{rows} rows show differences from about {least} on, four times in five"
    return text if enough else f"{text}; {wanted} cannot be shown"
