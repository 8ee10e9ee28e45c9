"""What must hold of every promotion: proven, on the same rows, by what is known; see ``invariants``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ...domain.idle import champion_label
from ...domain.jobs import RetrainingJob
from ...ports.registry import ModelVersion
from .history import History, Record, Step

# -- rule 3 -------------------------------------------------------------------------------------------------


def only_proven_promotions(history: History) -> None:
    """Nothing below the floor, unvalidated, or judged on rows that it was trained on is promoted."""
    floor = max(history.spec.floor, 0.85 if history.spec.task == "classification" else 0.0)
    for step in history.of_kind("promotion.intended"):
        job, name = step.job, f"rule 3: job {step.data['job_id']}"
        assert job.validation is not None, f"{name} was not validated"
        value = job.validation.metrics[history.spec.floor_measure]
        assert value is not None, f"{name}: its measure is unknown"
        assert floor <= value <= 1.0, f"{name}: {value} is below {floor}"
        assert job.validation.rows >= history.spec.min_holdout_rows, f"{name}: too few rows"
        _check_unseen(job, name)


def _check_unseen(job: RetrainingJob, name: str) -> None:
    candidate, holdout, training = job.candidate, job.holdout, job.training
    assert candidate is not None, f"{name} has no candidate"
    assert holdout is not None, f"{name} has no holdout"
    assert training is not None, f"{name} has no training rows"
    assert candidate.data_sha256 == training.sha256, f"{name}: it was trained on other rows"
    for version in filter(None, (candidate, job.champion)):
        seen = version.trained_on
        assert seen is None or not seen.overlaps(holdout.window), f"{name}: version {version.version} saw it"
    if training.last_at and holdout.first_at:
        assert training.last_at < holdout.first_at, f"{name}: the holdout is not later than the training rows"


# -- rule 4 -------------------------------------------------------------------------------------------------


def same_rows(history: History, record: Record) -> None:
    """Both versions are scored on the same rows, and identical ones are no improvement.

    Where the champion cannot be scored, nobody but a person promotes.
    """
    for step in history.of_kind("job.validated"):
        job = step.job
        assert job.holdout is not None, f"rule 4: job {job.job_id} was scored without a holdout"
        beside = None if step.data["validation"]["unscored"] else _digest(job.champion)
        judged = (_digest(job.candidate), beside, job.holdout.sha256)
        assert judged in _scored(record), f"rule 4: job {job.job_id} was scored on something else"
    for step in history.of_kind("promotion.intended"):
        _check_replaced(step)


def _check_replaced(step: Step) -> None:
    job, serving = step.job, step.before.champion
    name = f"rule 4: job {job.job_id}"
    assert job.validation is not None, f"{name} was not scored"
    assert not job.validation.identical, f"{name} changes nothing"
    assert not job.validation.unscored or job.approval is not None, f"{name} was compared with nothing"
    assert serving is None or serving.version.digest != _digest(job.candidate), f"{name} changes nothing"
    judged = job.champion.version if job.champion else None
    overridden = job.approval is not None and job.approval.override
    assert overridden or judged == champion_label(serving), (
        f"{name} was judged against version {judged}, and replaces {champion_label(serving)}"
    )


def _scored(record: Record) -> set[tuple[str | None, str | None, str]]:
    scored: set[tuple[str | None, str | None, str]] = set()
    for scoring in record.scorings:
        new, rows = record.predicted[scoring.candidate]
        old, same = record.predicted[scoring.champion] if scoring.champion else (None, rows)
        assert rows == same == scoring.rows, f"rule 4: predictions of other rows were scored: {scoring}"
        scored.add((new, old, rows))
    return scored


def _digest(version: ModelVersion | None) -> str | None:
    return version.digest if version else None


# -- rule 5 -------------------------------------------------------------------------------------------------


def unknown_never_passes(history: History) -> None:
    """No job is opened without the number that fired, and nothing promoted on an unknown verdict."""
    asked = {step.data["job_id"]: step for step in history.of_kind("request.start")}
    for step in history.of_kind("job.opened"):
        fired = step.data["job_id"] in asked or _has_fired(step.data["trigger_type"], step.data["evidence"])
        assert fired, f"rule 5: job {step.data['job_id']} was opened for no known reason: {step.data}"
    for step in history.of_kind("promotion.intended"):
        job = step.job
        assert job.validation is not None, f"rule 5: job {job.job_id} was not validated"
        assert job.validation.verdict.is_yes, f"rule 5: job {job.job_id} was promoted without a proven pass"


def _has_fired(trigger: str, evidence: Mapping[str, Any]) -> bool:
    if trigger == "performance_degradation":
        value = evidence["value"]
        return value is not None and math.isfinite(value) and value != evidence["threshold"]
    if trigger == "data_drift":
        measures = [column["psi"] for column in evidence["columns"].values()]
        return any(psi is not None and psi > evidence["threshold"] for psi in measures)
    return trigger == "custom" or "slot" in evidence
