"""A job as ``show`` explains it: trigger and evidence, windows, runs, scores, decision and why."""

from __future__ import annotations

import shutil
import sys
import textwrap
from typing import TYPE_CHECKING

import click

from ...domain.in_short import in_short
from .job_summary import standing
from .output import minute, print_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ...domain.explain import Moment
    from ...domain.jobs import RetrainingJob
    from ..reading import Installation


def show_job(installation: Installation, prefix: str, as_json: bool) -> None:
    """Print a job.

    Args:
        installation: Where to read.
        prefix: The job, or the beginning of its identity.
        as_json: Print ``{"job": …, "in_short": {…}, "timeline": […]}``; the job is null before it is opened.

    Raises:
        UnknownJob: There is no such job.
        Refused: Several jobs begin so.
    """
    model, job_id = installation.find_job(prefix)
    job, moments = installation.job(model, job_id), installation.timeline(model, job_id)
    if as_json:
        short = in_short(job) if job else {}
        print_json({"job": job, "job_id": job_id, "model": model, "in_short": short, "timeline": moments})
        return
    click.echo(f"Job {job_id} of {model}: {_state(job)}{_spent(job)}")
    if job is not None:
        click.echo()
        _print_facts(in_short(job))
    for moment in moments:
        _print_moment(moment)


def _state(job: RetrainingJob | None) -> str:
    if job is None:
        return "asked for, not opened yet"
    if not job.is_open:
        promoted = job.candidate and job.deployed
        word = "promoted" if promoted else "not promoted"
        return f"completed, {word}" if job.status.value == "completed" else job.status.value
    detail = standing(job)
    return f"{job.status.value}, {detail}" if detail else job.status.value


def _spent(job: RetrainingJob | None) -> str:
    """Attempts and cost, where there is anything to say about them."""
    if job is None:
        return ""
    attempts = f"{job.attempt} attempts" if job.attempt > 1 else ""
    cost = f"cost {job.cost:.2f}" if job.cost is not None else ""
    said = ", ".join(filter(None, (attempts, cost)))
    return f" ({said})" if said else ""


def _print_facts(facts: Mapping[str, str]) -> None:
    """Print headings and sentences; on a terminal they are wrapped, in a pipe each is a line."""
    width = max(map(len, facts)) + 2
    wraps = sys.stdout.isatty()
    room = max(shutil.get_terminal_size().columns - width, 40) if wraps else sys.maxsize
    for heading, text in facts.items():
        first, *more = textwrap.wrap(text, room) if wraps else [text]
        click.echo(f"{heading.ljust(width)}{first}")
        for line in more:
            click.echo(f"{'':{width}}{line}")


def _print_moment(moment: Moment) -> None:
    by = "" if moment.actor == "controller" else f"  ({moment.actor})"
    click.echo(f"\n{minute(moment.at)[:-4]}:{moment.at:%S}  {moment.title}{by}")
    for detail in moment.details:
        for line in detail.splitlines():
            click.echo(f"    {line}")
