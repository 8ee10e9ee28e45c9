"""The page: what became of a fleet, as one HTML file that can be sent and kept."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ...domain.explain import held_text
from ...ports.errors import MissingExtra
from ...ports.ledger import Ledger
from ...ports.observations import Observations

__all__ = ["replace_file", "template", "write_report"]


def write_report(
    ledger: Ledger,
    observations: Observations,
    path: Path,
    *,
    title: str,
    now: datetime,
    models: Sequence[str] | None = None,
) -> Path:
    """Write a page about a fleet: an overview, then each model's life in plots, jobs and decisions.

    The file holds all it needs: no scripts, and nothing is loaded from elsewhere. It appears
    at once and whole, in place of an earlier one.

    Args:
        ledger: Where the streams are. They are verified; of a stream with a fault only what comes before it
            is shown, and the fault is named.
        observations: The rolling record, for the plots over time.
        path: File to write; its folder is created.
        title: Heading of the page.
        now: Time of the page, and the right end of its plots.
        models: Models to show, in this order; ``None`` shows all that have a stream. One without a stream is
            listed as not enrolled.

    Returns:
        The path.

    Raises:
        MissingExtra: matplotlib or Jinja2 is not installed.
        Temporary: The ledger or the record cannot be read now.
        Permanent: Either is damaged, or of a newer version than this program.
        OSError: The file cannot be written.
    """
    page = template(Path(__file__).with_name("page.html.j2"))
    from .view import view_of

    names = ledger.models() if models is None else models
    views = [
        view_of(name, f"m{number}", ledger.read(name), observations.recent(name), now)
        for number, name in enumerate(names, start=1)
    ]
    replace_file(path, page.render(title=title, now=now, views=views))
    return path


def template(file: Path) -> Any:
    """Load a template of a page with plots.

    Raises:
        MissingExtra: matplotlib or Jinja2 is not installed.
    """
    try:
        import jinja2
        import matplotlib.figure  # noqa: F401  (the plots need it; said here, before any work is done)
    except ImportError as error:
        raise MissingExtra((error.name or "matplotlib").partition(".")[0], "report") from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(file.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["utc"] = _utc
    environment.globals["held"] = held_text
    return environment.get_template(file.name)


def _utc(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M}"


def replace_file(path: Path, text: str) -> None:
    """Write beside the file, then take its place; a reader never sees half a page.

    Raises:
        OSError: The file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8", errors="backslashreplace")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
