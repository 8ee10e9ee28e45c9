"""``run``: the controller, as a process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from ...ports.errors import Temporary
from .context import Invocation, pass_invocation
from .output import counted

if TYPE_CHECKING:
    from ...adapters.telemetry_prometheus import PrometheusTelemetry
    from ..anchoring import RegularAnchors
    from ..pipeline import AutoRetrainPipeline
    from ..service import Service, StopSignal
    from ..settings_sections import TelemetrySettings

_log = logging.getLogger(__name__)


@click.command()
@click.option("--once", is_flag=True, help="One turn of the loop, then end.")
@click.option(
    "--until-idle",
    is_flag=True,
    help="End when nothing is left to do before the next regular look; jobs that wait for approval stay.",
)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    help="Address of /metrics, /healthz and /readyz; port 0 takes a free one, '' none.  [default: the "
    "settings' controller.listen; none with --once and --until-idle]",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Look as ever and say what would be done; nothing is recorded, started, moved or sent.",
)
@click.option("--json", "as_json", is_flag=True, help="What a dry run says, as JSON with stable keys.")
@pass_invocation
def run(
    invocation: Invocation,
    once: bool,
    until_idle: bool,
    listen: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Watch the fleet, until SIGTERM or Ctrl-C.

    Looks, retrains, judges, promotes or says why not.

    Only one runs on a ledger in SQLite; on PostgreSQL several share the models. What a signal interrupts is
    finished first; what a crash interrupts is taken up by the next run, or by another one.
    """
    if once and until_idle:
        raise click.UsageError("--once and --until-idle exclude one another")
    if as_json and not dry_run:
        raise click.UsageError("--json says what a dry run finds; add --dry-run")
    if dry_run and listen:
        raise click.UsageError("--dry-run serves no pages; leave out --listen")
    if dry_run:
        from .dry_run import dry_run as look_only

        look_only(invocation, once, until_idle, as_json)
    else:
        _control(invocation, once, until_idle, listen)


def _control(invocation: Invocation, once: bool, until_idle: bool, listen: str | None) -> None:
    """Run the loop, and act."""
    from ...adapters.telemetry_prometheus import PrometheusTelemetry
    from ..service import Service, StopSignal, exclusive, release_quietly

    telemetry = PrometheusTelemetry()
    pipeline = invocation.pipeline("run", patient=once, quiet=False, telemetry=telemetry)
    if listen is None:
        listen = "" if once or until_idle else pipeline.settings.controller.listen
    with ExitStack() as stack:
        if pipeline.settings.ledger.store == "sqlite":
            stack.enter_context(exclusive(pipeline.settings.state_dir))
        stop = stack.enter_context(StopSignal())
        service = Service(pipeline, stop.wait, anchors=_anchors(pipeline, stack))
        stack.enter_context(_status(listen, service, telemetry, invocation.say))
        stack.callback(release_quietly, pipeline)
        invocation.say(f"watching {counted(service.start(), 'model')}")
        _turn(service, stop, once, until_idle)
        if once or until_idle:
            _push(pipeline.settings.telemetry, telemetry)


def _turn(service: Service, stop: StopSignal, once: bool, until_idle: bool) -> None:
    if once:
        report = service.once()
        held = "" if report.holds_lease else "; another process holds the lease"
        click.echo(f"looked at {counted(len(report.looked), 'model')}{held}")
    elif until_idle:
        idle = service.until_idle()
        click.echo("idle" if idle else "stopped before it was idle")
    else:
        service.forever()


def _push(settings: TelemetrySettings, telemetry: PrometheusTelemetry) -> None:
    """Leave the metrics with the Pushgateway of the settings, if there is one; its trouble is not ours."""
    if settings.pushgateway is None:
        return
    try:
        telemetry.push(settings.pushgateway, settings.push_job, settings.push_timeout_seconds)
    except Temporary as error:
        _log.warning("%s", error)


def _anchors(pipeline: AutoRetrainPipeline, stack: ExitStack) -> RegularAnchors | None:
    """Anchor the ledger regularly while the stack lasts, if the settings say where."""
    from ..anchoring import RegularAnchors

    if pipeline.anchor_keeper is None:
        return None
    every = timedelta(hours=pipeline.settings.audit.every_hours)
    return stack.enter_context(RegularAnchors(pipeline.anchoring, every))


@contextmanager
def _status(
    address: str, service: Service, telemetry: PrometheusTelemetry, say: Callable[[str], None]
) -> Iterator[None]:
    """Serve metrics and health while the block runs, if there is an address."""
    if not address:
        yield
        return
    from http import HTTPStatus

    from ..server import Page, StatusServer, health_page

    pages = {
        "/metrics": lambda accept: Page(HTTPStatus.OK, *telemetry.page(accept)),
        "/healthz": lambda _: health_page(service.alive()),
        "/readyz": lambda _: health_page(service.ready()),
    }
    with StatusServer(address, pages) as server:
        say(f"listening on {server.url} (/metrics, /healthz, /readyz)")
        yield
