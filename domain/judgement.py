"""Judgement of a validated candidate: the rules that never bend first, then the model's own policy."""

from __future__ import annotations

from dataclasses import replace

from .jobs import Approval, RetrainingJob
from .promotion import APPROVAL, FIRST_CHAMPION, SAFETY, Decision, Outcome, compare
from .spec import DIRECTIONS, ModelSpec
from .state import ModelState
from .trigger_types import TriggerType
from .validation import ValidationResult


def judge(spec: ModelSpec, state: ModelState, job: RetrainingJob, result: ValidationResult) -> Decision:
    """Judge a candidate by the rules alone.

    Returns:
        The decision. For a job that needs a person (see ``needs_person``) a promotion is a proposal.
    """
    barred = _barred(state, job, result, override=False)
    if barred is not None:
        return barred
    if job.trigger_type is TriggerType.MANUAL or result.champion_metrics is None:
        rule = APPROVAL if job.trigger_type is TriggerType.MANUAL else FIRST_CHAMPION
        return Decision(Outcome.PROMOTE, rule, result.verdict.reason, _numbers(spec, result))
    return _compare(spec, result, spec.promotion.min_improvement)


def needs_person(spec: ModelSpec, job: RetrainingJob) -> bool:
    """Whether a person must approve: for jobs started by hand, and a first champion unless set otherwise."""
    first = job.champion is None and spec.promotion.first_champion == "approval"
    return job.trigger_type is TriggerType.MANUAL or first


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
    if approval.min_improvement is None or result.champion_metrics is None:
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
        return f"it is the same model as version {label}, which was rolled back"
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
    }


def _compare(spec: ModelSpec, result: ValidationResult, min_improvement: float) -> Decision:
    metric = spec.comparison
    decision = compare(
        metric,
        DIRECTIONS[metric],
        result.metrics.get(metric),
        (result.champion_metrics or {}).get(metric),
        min_improvement,
    )
    return replace(decision, numbers={**decision.numbers, "rows": result.rows})
