"""Judgement of a validated candidate: the rules that never bend first, then the model's own policy."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from .checks import UNBENDING, guard_checks, kept_back
from .claims import Claim, Kind, judge_claim
from .guardrails import guard_segments
from .jobs import Approval, RetrainingJob
from .promotion import (
    APPROVAL,
    FIRST_CHAMPION,
    NON_INFERIORITY,
    SAFETY,
    SEED_POINT,
    Decision,
    Outcome,
    compare,
    is_tested,
)
from .spec import ModelSpec
from .spending import RULE, quarter_of
from .state import ModelState
from .validation import ValidationResult


def judge(spec: ModelSpec, state: ModelState, job: RetrainingJob, result: ValidationResult) -> Decision:
    """Judge a candidate by the rules alone.

    Returns:
        The decision. For a job that needs a person (see ``needs_person``) a promotion is a proposal.
    """
    barred = _barred(state, job, result, override=False)
    if barred is not None:
        return barred
    first = _is_first(result)
    decision = _first(spec, result) if first else _by_policy(spec, state, job, result)
    decision = guard_checks(decision, result.guardrails)
    if spec.promotion.by_person(job.trigger_type) or result.unscored:
        return _in_view(decision, "" if first else result.verdict.reason)
    return decision


def _is_first(result: ValidationResult) -> bool:
    """Whether there is nobody to be compared with; a champion that cannot be scored is somebody."""
    return result.champion_metrics is None and not result.unscored


def _first(spec: ModelSpec, result: ValidationResult) -> Decision:
    """Without a champion there is nothing to compare with: floor and guardrails decide."""
    return Decision(Outcome.PROMOTE, FIRST_CHAMPION, result.verdict.reason, _numbers(spec, result))


def _in_view(decision: Decision, valid: str) -> Decision:
    """A proposal to a person, with what the rule would have said; it does not count as a test."""
    numbers = {name: value for name, value in decision.numbers.items() if name != "level"}
    said = {"rule": decision.rule, "outcome": decision.outcome}
    reason = "; ".join(filter(None, (valid, decision.reason)))
    return Decision(Outcome.PROMOTE, APPROVAL, reason, {**numbers, "would_be": said})


def _by_policy(spec: ModelSpec, state: ModelState, job: RetrainingJob, result: ValidationResult) -> Decision:
    policy = spec.promotion.policy_of(job.trigger_type)
    if result.unscored:
        return Decision(Outcome.INCONCLUSIVE, policy, result.unscored, _numbers(spec, result))
    if policy == SEED_POINT:
        return _compare(spec, result, spec.promotion.min_improvement)
    if result.paired is None:
        why = result.unpaired or "the scorer does not tell how well it is known"
        text = f"the difference in {spec.comparison} is unknown: {why}"
        return Decision(Outcome.INCONCLUSIVE, policy, text, _numbers(spec, result))
    now, alpha = result.validation_timestamp, spec.promotion.alpha
    days = job.holdout_window.length / timedelta(days=1)
    decision = judge_claim(
        claim_of(spec, policy),
        result.paired,
        state.spending.level(alpha, now),
        result.rows / days if days else None,
    )
    account = {
        "alpha": alpha,
        "spending": RULE,
        "quarter": quarter_of(now),
        "decision": state.spending.number(now),
        "reused": reused(state, job, quarter_of(now)),
        **_terms(spec),
    }
    decision = replace(decision, numbers={**decision.numbers, **account})
    return guard_segments(decision, claim_of(spec, NON_INFERIORITY), result.segments)


def claim_of(spec: ModelSpec, policy: str) -> Claim:
    """What a policy asks for, with the model's numbers."""
    kind = Kind(policy)
    margins = {Kind.SUPERIORITY: spec.promotion.min_improvement, Kind.NON_INFERIORITY: spec.promotion.margin}
    return Claim(kind, margins.get(kind, 0.0), spec.promotion.scale)


def reused(state: ModelState, job: RetrainingJob, quarter: str) -> float:
    """How much of a job's holdout served earlier decisions of the quarter, as a fraction of its time."""
    window, covered = job.holdout_window, timedelta()
    seen_until = window.start
    earlier = [
        other.holdout_window
        for other in state.jobs.values()
        if other.job_id != job.job_id
        and other.decision is not None
        and is_tested(other.decision)
        and other.decision.numbers.get("quarter") == quarter
        and other.holdout_window.overlaps(window)
    ]
    for other in sorted(earlier):
        start, end = max(other.start, seen_until), min(other.end, window.end)
        covered += max(end - start, timedelta())
        seen_until = max(seen_until, end)
    return covered / window.length if window.length else 0.0


def needs_person(spec: ModelSpec, job: RetrainingJob, result: ValidationResult) -> bool:
    """Whether a person must approve.

    They must where a job was started by hand or is under ``approval@1``, where the champion cannot be scored,
    and for a first champion unless ``promotion.first_champion`` lets the floor alone decide.
    """
    first = job.champion is None and spec.promotion.first_champion == "approval"
    return first or bool(result.unscored) or spec.promotion.by_person(job.trigger_type)


def judge_approval(
    spec: ModelSpec, state: ModelState, job: RetrainingJob, result: ValidationResult, approval: Approval
) -> Decision:
    """Judge a candidate that a person answered for. Floor and validation still hold."""
    who = f"{approval.actor}: {approval.reason}" if approval.reason else approval.actor
    if not approval.approved:
        return Decision(Outcome.REJECT, APPROVAL, f"rejected by {who}", _numbers(spec, result))
    barred = _barred(state, job, result, approval.override)
    if barred is not None:
        return barred
    if approval.min_improvement is None or _is_first(result):
        return Decision(Outcome.PROMOTE, APPROVAL, f"approved by {who}", _numbers(spec, result))
    decision = _compare(spec, result, approval.min_improvement)
    return replace(decision, numbers={**decision.numbers, "approved_by": approval.actor})


def _barred(
    state: ModelState, job: RetrainingJob, result: ValidationResult, override: bool
) -> Decision | None:
    """What no policy may overrule; ``None`` when nothing stands against the candidate."""
    numbers = {"verdict": result.verdict, "rows": result.rows}
    if not result.verdict.is_yes:
        outcome = Outcome.REJECT if result.verdict.is_no else Outcome.INCONCLUSIVE
        return Decision(outcome, SAFETY, result.verdict.reason, numbers)
    seen = _seen_in_training(job)
    if seen:
        return Decision(Outcome.REJECT, SAFETY, seen, numbers)
    held = kept_back(result.guardrails, UNBENDING)
    if held is not None:
        return Decision(held[0], SAFETY, held[1], numbers)
    withdrawn = "" if override else _withdrawn(state, job)
    if withdrawn:
        return Decision(Outcome.REJECT, SAFETY, withdrawn, numbers)
    other = "" if override else _judged_against_another(state, job)
    if other:
        return Decision(Outcome.INCONCLUSIVE, SAFETY, other, numbers)
    champion = state.champion.version if state.champion else None
    same = champion is not None and job.candidate is not None and champion.digest == job.candidate.digest
    if same or result.identical:
        return Decision(Outcome.REJECT, SAFETY, "no change: it predicts as the champion does", numbers)
    return None


def _seen_in_training(job: RetrainingJob) -> str:
    """Whether either version was trained on rows or times of the holdout."""
    if job.holdout_window.overlaps(job.training_window):
        return "the holdout overlaps the candidate's training rows"
    trained_on = job.champion.trained_on if job.champion else None
    if trained_on is not None and job.holdout_window.overlaps(trained_on):
        return "the holdout overlaps the champion's training rows"
    return ""


def _judged_against_another(state: ModelState, job: RetrainingJob) -> str:
    """Whether the candidate would replace another version than the one it was scored beside."""
    judged = job.champion.version if job.champion else None
    serving = state.champion.version.version if state.champion else None
    if judged == serving:
        return ""
    return f"it was judged against version {judged}, and would replace version {serving}"


def _withdrawn(state: ModelState, job: RetrainingJob) -> str:
    """Whether the candidate would bring back what was rolled back."""
    if job.candidate is not None and job.candidate.digest in state.quarantined:
        label = state.quarantined[job.candidate.digest]
        return f"it is the same model as version {label}, which was rolled back or withdrawn"
    if state.withdrawn_at is not None and job.holdout_window.end <= state.withdrawn_at:
        return f"its data ends before the rollback of {state.withdrawn_at:%Y-%m-%d %H:%M} UTC"
    return ""


def _numbers(spec: ModelSpec, result: ValidationResult) -> dict[str, object]:
    metric = spec.comparison
    champion = (result.champion_metrics or {}).get(metric)
    return {
        "metric": metric,
        "candidate": result.metrics.get(metric),
        "champion": champion,
        "rows": result.rows,
        **_terms(spec),
    }


def _terms(spec: ModelSpec) -> dict[str, object]:
    """What nobody but the settings knows of a user's own measure; nothing for one of ours."""
    own = spec.own_metrics.get(spec.comparison)
    return {"direction": own.direction, "best": own.best} if own else {}


def _compare(spec: ModelSpec, result: ValidationResult, min_improvement: float) -> Decision:
    metric = spec.comparison
    decision = compare(
        metric,
        spec.directions[metric],
        result.metrics.get(metric),
        (result.champion_metrics or {}).get(metric),
        min_improvement,
    )
    return replace(decision, numbers={**decision.numbers, "rows": result.rows, **_terms(spec)})
