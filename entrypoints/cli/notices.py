"""``notices``: what has not reached people, and sending it again; touches the outbox alone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from .context import Invocation, pass_invocation
from .output import counted, json_option, minute, print_columns, print_json

if TYPE_CHECKING:
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
    titles = ("notice", "severity", "happened", "state", "tries", "next try", "what", "last error")
    print_columns(titles, map(_line, undelivered[:limit]))
    if len(undelivered) > limit:
        click.echo(f"… and {len(undelivered) - limit} more: --limit")


@notices.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that were given up.")
@pass_invocation
def resend(invocation: Invocation, ids: tuple[str, ...], everything: bool) -> None:
    """Send notices again, by the beginning of their ids.

    Dead letters wait again, and their tries begin anew; for those that wait, the next try is now.
    """
    if bool(ids) == everything:
        raise click.UsageError("name the notices to send again, or give --all for all dead letters")
    installation = invocation.installation()
    if everything:
        chosen = [outgoing.notice.id for outgoing in installation.undelivered() if outgoing.dead]
    else:
        chosen = [installation.find_notice(prefix) for prefix in ids]
    again = installation.resend(chosen, datetime.now(UTC))
    if not again:
        click.echo("no notice was given up")
        return
    text = "a running controller sends them within a minute; without one: autoretrain run --once"
    click.echo(f"{counted(again, 'notice')} to be sent again: {text}")


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
        notice.title,
        outgoing.error,
    )


def _state(outgoing: Outgoing) -> str:
    return "given up" if outgoing.dead else "waiting"
