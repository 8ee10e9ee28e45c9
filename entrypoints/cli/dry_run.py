"""``run --dry-run``: what a controller would do, told model by model."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...domain.explain import held_text
from .context import Invocation
from .output import counted, minute, plain, print_json

if TYPE_CHECKING:
    from ...ports.telemetry import TickReport
    from ..dry_run import DryRun, Finding
    from ..service import Service


def dry_run(invocation: Invocation, once: bool, until_idle: bool, as_json: bool) -> None:
    """Look as the controller does, and say what it would do. Nothing is recorded, started, moved or sent.

    Args:
        invocation: The global options.
        once: One turn of the loop.
        until_idle: End when every look is complete.
        as_json: One object at the end, or one a line where it goes on until it is stopped.
    """
    from ..dry_run import DryRun, clock
    from ..service import Service, StopSignal
    from ..settings import load_settings

    settings = load_settings(invocation.settings)
    invocation.log(settings.logging)
    follows = not (once or until_idle)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="autoretrain-dry-run-")))
        said = _Changes(as_json) if follows else _Silent()
        dry = DryRun(settings, scratch, said, patient=once, now=clock())
        stack.callback(dry.end)
        said.of = dry.findings
        stop = stack.enter_context(StopSignal())
        service = Service(dry.pipeline, stop.wait, at_rest=dry.at_rest)
        invocation.say(f"dry run: {counted(service.start(), 'model')}, on a copy of the ledger")
        _turn(service, once, until_idle)
        if not follows:
            _print(dry, as_json)


class _Silent:
    """Implements Telemetry: says nothing."""

    of: Callable[[Sequence[str] | None], list[Finding]] = staticmethod(lambda models: [])

    def report(self, tick: TickReport) -> None:
        """Take a report."""


class _Changes(_Silent):
    """Implements Telemetry: says after each turn what is another than before.

    Args:
        as_json: One object a line.
    """

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._said: dict[str, list[str]] = {}

    def report(self, tick: TickReport) -> None:
        """Say what has changed; of all models first, then of those that were looked at."""
        for finding in self.of(tick.looked if self._said else None):
            lines = list(_lines(finding))
            if self._said.get(finding.model) == lines:
                continue
            self._said[finding.model] = lines
            text = json.dumps(plain(finding), sort_keys=True, ensure_ascii=False)
            click.echo(text if self._as_json else "\n".join(lines))


def _turn(service: Service, once: bool, until_idle: bool) -> None:
    if once:
        service.once()
    elif until_idle:
        service.until_idle()
    else:
        service.forever()


def _print(dry: DryRun, as_json: bool) -> None:
    findings = dry.findings()
    known = {finding.model for finding in findings}
    missing = [model for model in dry.pipeline.settings.models if model not in known]
    if as_json:
        print_json({"models": findings, "incomplete": missing})
        return
    for finding in findings:
        click.echo("\n".join(_lines(finding)))
    for model in missing:
        click.echo(f"{model}: its look goes on; --until-idle waits for it")


def _lines(finding: Finding) -> Iterator[str]:
    match finding.would:
        case "leave":
            yield f"{finding.model}: left alone: {finding.reason}"
        case "retrain":
            yield f"{finding.model}: would retrain: {finding.reason}"
        case "wait":
            held = held_text(finding.held_back or "", finding.until)
            yield f"{finding.model}: would retrain, held back by {held}: {finding.reason}"
        case _:
            yield f"{finding.model}: would do nothing"
    if finding.adopts:
        yield f"    would take version {finding.adopts} as the champion, as it was found"
    yield from (f"    {line}" for line in _job(finding))
    if finding.would != "retrain":
        for name, said in finding.verdicts.items():
            yield f"    {name}: {said['answer']}: {said['reason']}"
    yield from (f"    would tell: {told}" for told in finding.tells)


def _job(finding: Finding) -> Iterator[str]:
    """What the job that would be opened is about, or why it would fail at once."""
    job = finding.job
    if job is None:
        return
    if not job.is_open:
        yield f"and it would end at once: {job.outcome}"
    for name, snapshot in (("train on", job.training), ("judge on", job.holdout)):
        if snapshot is not None:
            begin, end = minute(snapshot.window.start), minute(snapshot.window.end)
            yield f"would {name} {snapshot.rows} rows, {begin} to {end}"
