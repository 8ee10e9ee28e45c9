"""``rollback`` and ``override``: what people do with versions that serve."""

from __future__ import annotations

import click

from .context import Invocation, pass_invocation
from .jobs import reason_option
from .progress import waiting


@click.command()
@click.argument("model")
@click.option("--to", metavar="VERSION", help="Version to go back to.  [default: the last that served]")
@reason_option
@pass_invocation
def rollback(invocation: Invocation, model: str, to: str | None, reason: str) -> None:
    """Take the champion of MODEL back.

    The version withdrawn does not come back without ``override release``.
    """
    pipeline = invocation.pipeline()
    with waiting(f"rollback of {model}"):
        serving = pipeline.rollback(model, reason, to=to)
    click.echo(f"version {serving} of {model} serves")


@click.group()
def override() -> None:
    """Decide where the rules leave it to a person."""


@override.command()
@click.argument("model")
@reason_option
@pass_invocation
def adopt(invocation: Invocation, model: str, reason: str) -> None:
    """Accept the champion of MODEL as somebody else set it, which ends a conflict."""
    invocation.pipeline().adopt_champion(model, reason)
    click.echo(f"recorded; the champion of {model} is adopted at the next look")


@override.command()
@click.argument("model")
@click.argument("version")
@reason_option
@pass_invocation
def release(invocation: Invocation, model: str, version: str, reason: str) -> None:
    """Let VERSION of MODEL, which was rolled back, come into question again."""
    invocation.pipeline().release_version(model, version, reason)
    click.echo(f"version {version} of {model} may serve again")
