"""``jobs`` and ``show``: the commands that only look; they read the ledger alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .context import Invocation, pass_invocation
from .job_summary import standing, summary_of
from .output import json_option, minute, percent, print_columns, print_json

if TYPE_CHECKING:
    from ...domain.jobs import RetrainingJob
    from ...domain.state import ModelState


@click.command()
@click.argument("model", required=False)
@click.option("--limit", default=20, show_default=True, type=click.IntRange(min=1), help="At most so many.")
@json_option
@pass_invocation
def jobs(invocation: Invocation, model: str | None, limit: int, as_json: bool) -> None:
    """List jobs, newest first; of all models, or of MODEL."""
    installation = invocation.installation()
    states = installation.states() if model is None else [installation.state(model)]
    found = [job for state in states for job in state.jobs.values()]
    found.sort(key=lambda job: (job.created_at, job.job_id), reverse=True)
    asked = [state for state in states if state.start]
    if as_json:
        rows = [_requested(state) for state in asked] + [summary_of(job) for job in found]
        print_json(rows[:limit])
        return
    lines = [_request_line(state) for state in asked] + [_line(job) for job in found]
    if not lines:
        click.echo("no jobs yet; a trigger opens one, or 'autoretrain start MODEL'")
        return
    print_columns(("JOB", "MODEL", "TRIGGER", "STATE", "OPENED", "GAIN", "OUTCOME"), lines[:limit])
    if len(lines) > limit:
        click.echo(f"… and {len(lines) - limit} more: --limit")


@click.command()
@click.argument("job_or_model")
@json_option
@pass_invocation
def show(invocation: Invocation, job_or_model: str, as_json: bool) -> None:
    """Explain a job as a timeline, or say how a model stands.

    A job may be named by the beginning of its identity, when no other job begins so.
    """
    installation = invocation.installation()
    if job_or_model in installation.models():
        from .model_view import show_model

        show_model(installation, job_or_model, as_json)
    else:
        from .job_view import show_job

        show_job(installation, job_or_model, as_json)


def _requested(state: ModelState) -> dict[str, Any]:
    """A job that was asked for and is not opened yet, under the same keys."""
    assert state.start is not None  # noqa: S101  (the caller chose those)
    keys = ("created_at", "completed_at", "candidate", "improvement", "decision", "awaiting_until")
    return {
        **dict.fromkeys(keys),
        "approvals": [],
        "approvals_needed": None,
        "job_id": state.start.job_id,
        "model": state.model,
        "trigger": "manual",
        "status": "pending",
        "deployed": False,
        "rolled_back_at": None,
        "reason": state.start.reason,
        "outcome": f"asked for by {state.start.actor}, not opened yet",
    }


def _request_line(state: ModelState) -> tuple[str, ...]:
    row = _requested(state)
    return (row["job_id"][:8], row["model"], row["trigger"], row["status"], "", "", row["outcome"])


def _line(job: RetrainingJob) -> tuple[str, ...]:
    return (
        job.job_id[:8],
        job.model_name,
        job.trigger_type.value,
        job.status.value,
        minute(job.created_at),
        percent(job.improvement_pct),
        _short(standing(job)),
    )


def _short(text: str) -> str:
    return text if len(text) <= 90 else f"{text[:89]}…"
