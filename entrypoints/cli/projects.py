"""``init`` and ``demo``: a first project, and a first tour."""

from __future__ import annotations

from glob import glob
from pathlib import Path

import click

from .context import Invocation, pass_invocation

directory_type = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.argument("directory", type=directory_type, default=".")
def init(directory: Path) -> None:
    """Write a first project into DIRECTORY.

    It has settings, a training script, data, and a champion that needs retraining.
    """
    from ..project import create

    for name in create(directory, progress=click.echo):
        click.echo(directory / name)
    into = "" if directory == Path() else f"cd {directory}; "
    click.echo(f"next: {into}autoretrain check")


@click.command()
@click.option("--csv", "patterns", multiple=True, metavar="FILES", help="Your own table; globs, repeatable.")
@click.argument("more", nargs=-1, metavar="[MORE FILES]...")
@click.option("--label", metavar="LABEL", help="Its label: a column, or a comparison ('NOX > 65').")
@click.option("--time", metavar="COLUMN", help="Its time column.  [default: hourly stamps, in file order]")
@click.option("--directory", type=directory_type, default="demo-project", show_default=True, help="Where.")
@click.option("--open/--no-open", "open_page", default=True, show_default=True, help="Open its page.")
@pass_invocation
def demo(
    invocation: Invocation,
    patterns: tuple[str, ...],
    more: tuple[str, ...],
    label: str | None,
    time: str | None,
    directory: Path,
    open_page: bool,
) -> None:
    """Take a small fleet through its life in minutes.

    Drift, retraining, promotion, rejection, a schedule, a rollback; or the same on your own table.
    """
    from .. import demo as tour

    invocation.log()
    # A shell that expands the glob itself leaves all files but the first as arguments.
    files = [name for pattern in (*patterns, *more) for name in sorted(glob(pattern)) or [pattern]]
    tour.run(directory, csv=files, label=label, time=time, open_page=open_page, echo=click.echo)
