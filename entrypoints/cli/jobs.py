"""``start``, ``wait``, ``approve``, ``reject`` and ``cancel``: what people do with jobs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from .context import Invocation, pass_invocation
from .job_summary import standing
from .progress import waiting

if TYPE_CHECKING:
    from ...domain.jobs import RetrainingJob
    from ..pipeline import AutoRetrainPipeline

_ACTED_ON_SECONDS = 15.0
"""How long a request is followed; a controller acts on it within 5 s, longer things go on without us."""

reason_option = click.option("--reason", default="", metavar="TEXT", help="Why, for the record.")
timeout_option = click.option(
    "--timeout", default=3600.0, show_default=True, metavar="SECONDS", help="Wait so long at most."
)


class Parameter(click.ParamType[Any]):
    """``name=value``; the value is JSON, or else text."""

    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read one parameter into a pair."""
        if isinstance(value, tuple):
            return value
        name, given, text = str(value).partition("=")
        if not (name and given):
            self.fail(f"{value!r}: write name=value", param, ctx)
        try:
            return name, json.loads(text)
        except ValueError:
            return name, text


@click.command()
@click.argument("model")
@click.option(
    "--param",
    "parameters",
    multiple=True,
    type=Parameter(),
    help="Training configuration, over the settings'; may be repeated.",
)
@reason_option
@click.option("--wait", "and_wait", is_flag=True, help="Wait until it ended, or waits for approval.")
@timeout_option
@pass_invocation
def start(
    invocation: Invocation,
    model: str,
    parameters: tuple[tuple[str, Any], ...],
    reason: str,
    and_wait: bool,
    timeout: float,
) -> None:
    """Start a retraining of MODEL; prints the job's identity."""
    pipeline = invocation.pipeline()
    job_id = pipeline.start_retrain_job(model, dict(parameters), reason=reason)
    click.echo(job_id)
    if and_wait:
        _follow(pipeline, job_id, timeout)


@click.command()
@click.argument("job")
@timeout_option
@pass_invocation
def wait(invocation: Invocation, job: str, timeout: float) -> None:
    """Wait until JOB has ended, or waits for approval. Exit code 2 when it failed or was cancelled."""
    _follow(invocation.pipeline(), _whole(invocation, job), timeout)


@click.command()
@click.argument("job")
@reason_option
@click.option(
    "--min-improvement", type=float, metavar="X", help="Promote only if it improves by this; 0.05 is 5 %."
)
@click.option("--override", is_flag=True, help="Also let a version back that was rolled back.")
@pass_invocation
def approve(
    invocation: Invocation, job: str, reason: str, min_improvement: float | None, override: bool
) -> None:
    """Let the candidate of JOB serve; floor and validation still hold."""
    pipeline, job_id = invocation.pipeline(), _whole(invocation, job)
    pipeline.approve(job_id, reason, min_improvement=min_improvement, override=override)
    _outcome(pipeline, job_id, "approval")


@click.command()
@click.argument("job")
@click.option("--reason", required=True, metavar="TEXT", help="Why, for the record.")
@pass_invocation
def reject(invocation: Invocation, job: str, reason: str) -> None:
    """Refuse the candidate of JOB."""
    pipeline, job_id = invocation.pipeline(), _whole(invocation, job)
    pipeline.reject(job_id, reason)
    _outcome(pipeline, job_id, "rejection")


@click.command()
@click.argument("job")
@reason_option
@pass_invocation
def cancel(invocation: Invocation, job: str, reason: str) -> None:
    """End JOB before its outcome."""
    pipeline, job_id = invocation.pipeline(), _whole(invocation, job)
    pipeline.cancel(job_id, reason)
    _outcome(pipeline, job_id, "cancellation")


def _whole(invocation: Invocation, prefix: str) -> str:
    """The whole identity of a job."""
    return invocation.installation().find_job(prefix)[1]


def _follow(pipeline: AutoRetrainPipeline, job_id: str, timeout: float) -> None:
    """Wait for a job, and say how it stands."""
    with waiting(f"job {job_id[:8]}"):
        job = pipeline.wait(job_id, timeout)
    _tell(job)
    if job.status.value in ("failed", "cancelled"):
        click.get_current_context().exit(2)


def _outcome(pipeline: AutoRetrainPipeline, job_id: str, request: str) -> None:
    """Say what came of a request, or that it is recorded and goes on."""
    from ...ports.errors import Temporary, UnknownJob

    try:
        with waiting(request):
            job = pipeline.wait(job_id, _ACTED_ON_SECONDS)
    except Temporary:
        click.echo(f"{request} recorded; it goes on: autoretrain show {job_id[:8]}")
    except UnknownJob:  # its request was cancelled before it was opened
        click.echo(f"{request} recorded; the job was never opened")
    else:
        _tell(job)


def _tell(job: RetrainingJob) -> None:
    detail = standing(job)
    click.echo(f"{job.status.value}: {detail}" if detail else job.status.value)
    if job.awaiting_until and job.is_open:
        click.echo(f"next: autoretrain show {job.job_id[:8]}, then approve or reject it")
