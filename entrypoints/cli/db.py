"""``db status`` and ``db upgrade``: the tables of the ledger, and how they come to this release's version."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import click

from .context import Invocation, pass_invocation
from .output import json_option, print_json

if TYPE_CHECKING:
    from ..stores import Store


@click.group()
def db() -> None:
    """Look after the tables of the ledger, on SQLite or PostgreSQL."""


@db.command()
@json_option
@pass_invocation
def status(invocation: Invocation, as_json: bool) -> None:
    """Say where the ledger is, and whether its tables are those of this release.

    Changes nothing.

    Exit code 2 when they are not.
    """
    from ..reading import place_of

    rows = [_row(name, part) for name, part in _parts(place_of(invocation.settings).store)]
    if as_json:
        print_json(rows)
    for row in () if as_json else rows:
        click.echo(f"{row['part']}: {row['place']}: {_told(row)}")
    click.get_current_context().exit(
        2 if any(row["version"] not in (0, row["needed"]) for row in rows) else 0
    )


@db.command()
@pass_invocation
def upgrade(invocation: Invocation) -> None:
    """Bring the tables to this release's version, or create them.

    Stop every controller and make a backup first: a part is upgraded as a whole or not at all, and there is
    no other way back.
    """
    from ..reading import place_of

    store = place_of(invocation.settings).store
    with _alone(store):
        for name, part in _parts(store):
            before, now = part.upgrade()
            done = (
                f"is at {now} already"
                if before == now
                else f"brought from {before} to {now}"
                if before
                else f"created at {now}"
            )
            click.echo(f"{name}: {part.place}: schema {done}")


def _parts(store: Store) -> Iterator[tuple[str, Any]]:
    """What has tables of its own; on PostgreSQL all are in one schema."""
    yield "ledger", store.ledger()
    if store.kind == "sqlite":
        yield "observations", store.observations()


def _alone(store: Store) -> Any:
    """Keep ``autoretrain run`` out of SQLite's files; on PostgreSQL the tables say so themselves."""
    from ..service import exclusive

    return exclusive(store.state_dir) if store.kind == "sqlite" else nullcontext()


def _row(name: str, part: Any) -> dict[str, Any]:
    version, needed = part.versions()
    return {"part": name, "place": part.place, "version": version, "needed": needed}


def _told(row: dict[str, Any]) -> str:
    version, needed = row["version"], row["needed"]
    if version == 0:
        return f"not there yet; the first start, or 'autoretrain db upgrade', creates it at schema {needed}"
    if version < needed:
        fix = "stop every controller, back it up, and run 'autoretrain db upgrade'"
        return f"schema {version}, this release needs {needed}: {fix}"
    if version > needed:
        return f"schema {version}, this release knows none above {needed}: upgrade autoretrain"
    return f"schema {version}, as this release needs it"
