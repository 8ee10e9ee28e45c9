"""``notices``: what has not reached people, sending it again, and trying whether anything would arrive."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from ...ports.notifier import DEFAULT_TARGET
from .context import Invocation, pass_invocation
from .output import counted, json_option, minute, print_columns, print_json

if TYPE_CHECKING:
    from ...ports.notifier import Severity
    from ...ports.outbox import Outgoing


@click.group(invoke_without_command=True)
@click.option("--limit", default=20, show_default=True, type=click.IntRange(min=1), help="At most so many.")
@json_option
@click.pass_context
def notices(context: click.Context, limit: int, as_json: bool) -> None:
    """List notices that wait or were given up.

    The most urgent first, then the dead letters: those that the receiver refuses for good.
    """
    if context.invoked_subcommand is not None:
        return
    found = context.find_object(Invocation)
    assert found is not None  # noqa: S101  (the program makes one)
    undelivered = found.installation().undelivered()
    if as_json:
        print_json([_row(outgoing) for outgoing in undelivered[:limit]])
        return
    if not undelivered:
        click.echo("every notice has arrived")
        return
    titles = ("notice", "severity", "happened", "state", "tries", "next try", "for", "what", "last error")
    routed = any(outgoing.notice.target for outgoing in undelivered)
    rows = [titles, *map(_line, undelivered[:limit])]
    first, *others = rows if routed else [(*row[:6], *row[7:]) for row in rows]
    print_columns(first, others)
    if len(undelivered) > limit:
        click.echo(f"… and {len(undelivered) - limit} more: --limit")


@notices.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that were given up.")
@click.option("--to", metavar="TARGET", help="Send them to this target instead.")
@pass_invocation
def resend(invocation: Invocation, ids: tuple[str, ...], everything: bool, to: str | None) -> None:
    """Send notices again, by the beginning of their ids.

    Dead letters wait again, and their tries begin anew; for those that wait, the next try is now. A
    beginning that several targets' notices of one event have is that of all of them.
    """
    if bool(ids) == everything:
        raise click.UsageError("name the notices to send again, or give --all for all dead letters")
    installation = invocation.installation()
    if everything:
        chosen = [outgoing.notice.id for outgoing in installation.undelivered() if outgoing.dead]
    else:
        chosen = [notice_id for prefix in ids for notice_id in installation.find_notices(prefix)]
    again = installation.resend(chosen, datetime.now(UTC), to)
    if not again:
        click.echo("no notice was given up")
        return
    text = "a running controller sends them within a minute; without one: autoretrain run --once"
    click.echo(f"{counted(again, 'notice')} to be sent again: {text}")


@notices.command("test")
@click.argument("targets", metavar="[TARGET]...", nargs=-1)
@click.option(
    "--severity",
    type=click.Choice(["info", "warning", "critical"]),
    default="info",
    show_default=True,
    help="Of the test notice.",
)
@json_option
@pass_invocation
def try_out(invocation: Invocation, targets: tuple[str, ...], severity: Severity, as_json: bool) -> None:
    """Send a test notice, and say what became of it: to every target, or to those that are named.

    It goes straight to them, past routes and outbox; a pager will ring. `default` is the notifier of
    adapters.notifier.

    Exit code 1 when a target cannot be reached now, 2 when one refuses or is set up wrongly.
    """
    from ..notice_trial import send_tests
    from ..people import current_user
    from ..settings import load_settings

    settings = load_settings(invocation.settings)
    invocation.log(settings.logging, quiet=False)
    actor, now = invocation.actor or current_user(), datetime.now(UTC)
    found = []
    for tested in send_tests(settings, targets, severity, actor, now):
        found.append(tested)
        if not as_json:
            said = f": {tested.error}" if tested.error else f", as {tested.notice}"
            click.echo(f"{tested.outcome:<8} {tested.target} ({tested.kind}){said}")
    if as_json:
        print_json(found)
    click.get_current_context().exit(max(_EXIT_CODES[tested.outcome] for tested in found))


_EXIT_CODES = {"sent": 0, "failed": 1, "refused": 2}


def _row(outgoing: Outgoing) -> dict[str, Any]:
    notice = outgoing.notice
    return {
        "id": notice.id,
        "model": notice.model,
        "event": notice.event,
        "severity": notice.severity,
        "title": notice.title,
        "body": notice.body,
        "facts": notice.facts,
        "at": notice.at,
        "target": notice.target or DEFAULT_TARGET,
        "state": _state(outgoing),
        "attempts": outgoing.attempts,
        "error": outgoing.error,
        "next_try": outgoing.next_try,
    }


def _line(outgoing: Outgoing) -> tuple[str, ...]:
    notice = outgoing.notice
    return (
        notice.id[:8],
        notice.severity,
        minute(notice.at),
        _state(outgoing),
        str(outgoing.attempts),
        "" if outgoing.dead else minute(outgoing.next_try) or "at once",
        notice.target or DEFAULT_TARGET,
        notice.title,
        outgoing.error,
    )


def _state(outgoing: Outgoing) -> str:
    return "given up" if outgoing.dead else "waiting"
